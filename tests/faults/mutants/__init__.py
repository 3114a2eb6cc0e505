"""Deliberately broken builds: a check that one of them passes checks nothing.

A mutant is a module here whose `break_it()` breaks one thing before the server starts. It runs as
`python -m tests.faults.mutants NAME serve ...`.
"""
