"""Reports: plain result records in, HTML and Markdown out.

Nothing here knows torch, the zoo or the engine; only `compressor.errors` is shared. One record
(`results.json` of a run folder) is summarised once (`reports.summary`) and every format shows the
same numbers from it.
"""
