"""The figures, tables and statements of Zhang et al. (NeurIPS 2020), arXiv 2002.09169, recomputed.

Each module computes a table, ``compute(...) -> DataFrame``, from densities, from committed votes or from published
figures; those of figures draw it, ``draw(frame) -> Figure``. The paper is cited as [Z].

* ``figure1``: the density of the noise's 2-norm in high dimension.
* ``figure2``: the overlap of a noise and its shift in two dimensions.
* ``figure3``: accuracy against robustness in five dimensions.
* ``figure4``: certified accuracy of CIFAR-10 against the Linf radius.
* ``theory``: theorems, corollaries and propositions, each claim beside two computations.
* ``table1``, ``table2``, ``table3``, by ``tables``, ``accuracy``, ``comparison``; ``printed`` and ``logs``: what they
  stand beside.
* ``profiles``, ``screen``, ``votes``, ``dual``, ``scales``: which noises, and their votes.
* ``ablation``, ``verdict``: where differences come from, and what holds.
* ``families``: densities and integrals that share no code with the certificates.
* ``drawing``: what the figures have in common, and ``save``.
* ``showing``: tables, text and pictures for notebooks.
* ``artefacts``: what is published, and how to add to it; ``comparing``: how it is compared with what is computed.
"""
