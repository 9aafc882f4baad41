"""From a function of tensors to a program in C: what it does is written down, and compiled once per machine.

``recording`` writes down what a function does, ``pointwise`` knows each operation on single entries in C, and
``compiling`` hands a text to the machine's C compiler. Whoever uses them arranges the loops: ``fleet.native`` for
blocks of runs, ``optim.fused`` for one pass over the parameters.
"""
