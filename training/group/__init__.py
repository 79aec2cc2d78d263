"""How the processes of a group meet, and which one is to blame where others wait in vain.

:mod:`dropdrift.training.distributed` is the door to it.
"""
