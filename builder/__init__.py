"""From an image name to layers.

A build reads as a sentence: `names.parse` gives an `EnvironmentSpec`, `solve` turns it into a `Lock`, `plan` decides
which packages share which layer, `fragment` transcodes each package once into a compressed run of tar members, `layer`
joins fragments, and `image` writes config, manifest and index. Nothing is installed and nothing is executed.
"""
