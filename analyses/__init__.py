"""Questions about a backbone or its calibrations that a table and a picture answer, asked on held-out prompts.

Every analysis is a class in a file of its own, named in `kinds.KINDS`: a subclass of `analysis.Analysis` with the name
of its kind, its question, its options (an `engine.schema.Section`: what `key=value` can say besides the keys of a
configuration), what its targets are, and one method, `examine(bench)`, which returns `Findings`. `examine` is the
whole analysis from beginning to end, and is also how it goes on: everything that it has evaluated, `bench.opened(…)`
gives an `Evaluator` for, and everything that it has calibrated, `bench.calibrated(…)`, is recorded the moment it is
known and found again when `examine` is called anew. Give the evaluator stage `test` (or `baseline` through
`engine.heldout.best_neutral`), a `generation` that counts the buckets and positions that never change their meaning;
take the buckets from `buckets.py`, the first of which is the run's own test bucket, so that evaluations are shared with
runs by their content. `Findings` are plain values (a headline, sections of sentences, figures and tables): they
are stored as they are, and `page.py` makes the page, the CSV files and the JSON of them without the backbone. Nothing
else has to be written: the command, the progress bar, resuming, deletion and the page are the same for all.

analysis.py has the nouns, target.py reads what is analysed, session.py begins an analysis and goes on with it, bench.py
is where it works, differences.py has paired tests with Holm's correction.
"""
