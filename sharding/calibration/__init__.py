"""What a machine really does: measured, compared with TorchRec's estimates and fitted."""
