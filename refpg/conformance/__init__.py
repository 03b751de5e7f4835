"""The judge: certified vectors, adapters, verdicts and their diagnosis.

    ops             the contract: every operation, its inputs, outputs and conventions
    signatures      what the contract's types mean for inputs and answers
    vectors         the certified cases, read from files that are not trusted
    tolerance       how far a correct implementation may be from a certified value
    adapters        what is judged
    protocol        what the judge and a worker say to each other
    worker          the judge's side: a process, started, asked and never trusted
    serve           the worker's side, for Python targets
    presets         the conventions of papers and libraries, by name
    reference       refpg's own answers, judged like any other
    verdicts        one case, one function, one verdict
    diagnosis/      what a wrong answer is, as far as the evidence goes
    consequences    what a wrong trust-region step does
    run             a check from beginning to end
    smoke           forms and repeatability, before any mathematics
    waivers         known failures, excused for a time
    testing         the door for pytest: one test per vector (and pytest_plugin, what pytest prints about it)
    skeleton        an adapter to fill in, and its tests
    report/         for a terminal, a machine, a page
    replay          a recorded run, judged again
    snippets/       a case as text to paste, in several languages
    plaintext       the vectors as lines of words, for languages without a JSON parser
    releases        a release of the vectors: listed, verified, compared with another
    export          a release as plain files that need no refpg
    mutants/        the code that makes each known mistake
    selfcheck/      the judge judged: mutants, honest variants, odd adapters, flawed comparisons
    peers/          adapters of real libraries
    laws/           relations that answers must obey on all inputs
    strategies      inputs for them, drawn by hypothesis

From Python::

    from refpg.conformance.run import check
    run = check(my_module, profiles=["estimators"])
    assert run.exit_code == 0
"""
