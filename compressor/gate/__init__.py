"""The gate: a model file, or a submission package, held against every rule at once.

`run.gate` gives one record; `reports` renders it in every format. The light path: nothing here
imports torch.
"""
