"""The figures and statements of Zhang et al. (NeurIPS 2020), arXiv 2002.09169, recomputed.

Each module computes a table, ``compute(...) -> DataFrame``, from densities and parameters alone; those of figures draw
it, ``draw(frame) -> Figure``. The paper is cited as [Z].

* ``figure1``: the density of the noise's 2-norm in high dimension.
* ``figure2``: the overlap of a noise and its shift in two dimensions.
* ``figure3``: accuracy against robustness in five dimensions.
* ``theory``: theorems, corollaries and propositions, each claim beside two computations.
* ``families``: densities and integrals that share no code with the certificates.
* ``drawing``: what the figures have in common, and ``save``.
* ``showing``: tables and pictures for notebooks.
* ``artefacts``: what is published, and how to add to it; ``comparing``: how it is compared with what is computed.
"""
