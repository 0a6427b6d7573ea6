"""What may be in an environment, whoever asks for it.

    rules       what one source says: the settings, a namespace, the deny list
    policy      the rules of all sources together, and what they refuse: a spec, a package, a lock
    denial      one line of a deny list        versions, licenses    what rules compare
    deny_list_text  how such lists are written
    deny_list   the file or address that known-vulnerable versions are read from, and kept at failures
    policies    which policy holds for a namespace now
    sieve       (builder.solve) keeps what is refused from the solver

A refusal says what is refused, by which rule, where that is set, and what to do.
"""
