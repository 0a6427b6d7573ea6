"""The kinds of repositories: pushed, made on demand, mirrored.

kind        the protocol, and which kind a name belongs to
all_kinds   all kinds, in the order in which they are asked: a new one is a module here and a line there
stored      what kinds that answer from the database share
pages       lists in pages
pushed      on_demand      mirrored
waiting     answering a pull while its image is built
"""
