"""What runs on the pod: one file, Python's standard library only, any Python from 3.8 on.

The package is zipped by `cai_bootstrap.pod.shipment`, sent over ssh and started as `python3 FILE.pyz VERB BASE`. It
keeps its state under `BASE/.pod/`; it never imports the rest of cai_bootstrap.
"""
