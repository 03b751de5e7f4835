"""The judge: certified vectors, adapters, verdicts and their diagnosis.

    ops             the contract: every operation, its inputs, outputs and conventions
    signatures      what the contract's types mean for inputs and answers
    vectors         the certified cases, read from files that are not trusted
    tolerance       how far a correct implementation may be from a certified value
    adapters        what is judged
    reference       refpg's own answers, judged like any other
    verdicts        one case, one function, one verdict
    diagnosis       what a wrong answer is, as far as the evidence goes
    consequences    what a wrong trust-region step does
    run             a check from beginning to end
    report          for a terminal, a machine, a page
    plaintext       the vectors as lines of words, for languages without a JSON parser
    releases        a release of the vectors: listed, verified, compared with another
    export          a release as plain files that need no refpg
    peers/          adapters of real libraries

From Python::

    from refpg.conformance.run import check
    run = check(my_module, profiles=["estimators"])
    assert run.exit_code == 0
"""
