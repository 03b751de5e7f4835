"""refpg beside the libraries its users would otherwise reach for: the same inputs, one interleaved run, ratios.

    problems     the sizes, and the inputs every implementation is given
    operations   what is computed, and how near the answers must be
    peers/       one implementation a file, refpg's own among them
    timing       rounds in which everybody takes turns
    agreement    nobody is timed whose answer is another
    memory       the peak of one operation, in a process of its own
    machine      what this machine can do at best, and what is installed
    growth       time over rows, widths and parameters
    streaming    rows that never exist at once
    validation   what the checks of arguments cost
    workers      threads, processes and Dask
    processes    importing, judging, testing: whole processes
    goals        what is asked, met or missed
    report       JSON and Markdown
    readme       the short form, in the project's README
    figures      the curves

``python -m verification.benchmarks`` runs it all.  Importing this package imports nothing: the number of threads is
set before NumPy is loaded.
"""
