"""The statements of [Z], each beside two computations; functions return rows as ``claims.row`` makes them,
which ``claims.summary`` counts; three modules draw.

* ``smoothing``: what a certificate proves, on the line; drawn.
* ``theorem1``: the dual bound, its tightness, the discrepancy.
* ``dual``: its dual function, drawn.
* ``corollaries``: the closed forms for Laplace (Eq. 7) and Gaussian noise (Eq. 8).
* ``radius``: the thin shell and the law of the radius (Propositions 1 to 3).
* ``spherical``: L2 and Linf for spherical noise (Proposition 4).
* ``worst_shift``: where the discrepancy is largest in a ball (Theorems 2 and 3).
* ``balls``: the same over all shifts of the plane, drawn.
* ``shape``: mass at the centre and in the tails.
* ``cube``: Eq. 12 under Linf.
* ``high_dim``: what Linf asks for at the size of ImageNet.
"""
