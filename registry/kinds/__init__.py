"""What a repository's name is: pushed, made on demand, mirrored.

kind        the protocol, and which kind a name is of
kinds       all kinds, in the order in which they are asked: a new one is a module here and a line there
stored      what kinds share that answer from the database
pages       lists, a page at a time
pushed      on_demand      mirrored
waiting     answering a pull while its image is built
"""
