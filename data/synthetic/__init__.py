"""A music application's impressions of any number, made from a seed, with a known best AUC.

What is planted, and where to read it:

* ``world``: users, songs and sessions are vectors of independent normal factors (taste, style,
  quality and so on), and the probability of a collect is logistic in products of them. It is
  known for each row, so the AUC that no model can be expected to exceed is known too
  (:meth:`SyntheticSource.bayes_auc`, about 0.85).
* ``user_fields``, ``song_fields``, ``context_fields``: over 200 fields. Most are noisy, coarse or
  repeated views of the same few factors, as profile statistics in several windows are; about a
  dozen tell nothing of the label. Field values are made from the factors, never from the labels.
* ``missing``: values missing at random at a rate of each field's own, and whole blocks missing
  for a reason: logged-out and new users, fresh songs, services that are down. It is the same in
  training, validation and test, as in an application whose serving has the holes of its logs.
* 40% of the users and of the songs arrive after the first day, so that some are new in the test
  part.

What is not there: drift of tastes, an effect of one impression on the next, position bias beyond
a field that goes with attention, or labels that depend on what is missing.
"""

from dropdrift.data.synthetic.source import SyntheticSource

__all__ = ["SyntheticSource"]
