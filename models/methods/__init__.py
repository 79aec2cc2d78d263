"""What can be trained around a base ranking model: AsymDiffRec and what it is compared with."""
