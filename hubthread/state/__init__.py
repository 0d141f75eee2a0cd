"""The state of a room as its members see it: compared with a copy, and sent as patches.

Layer: state.  Threads: the thread that owns the state calls everything here.

=============  ====================================================================================
``marks.py``   ``Round``, ``Private``, ``Unsynced``: what annotations say about a field
``plan.py``    from the type of a state to its plan; refuses types that have none
``shadow.py``  the copy that members have: compares it with the state, and makes patches
``grid.py``    finds what is near a place, for views
``patch.py``   patches, and their application, which clients do
=============  ====================================================================================

Read ``patch.py`` first, then ``shadow.py``.  The package knows no room and no clock.
"""
