"""The state of a room as its members see it: compared with a copy, and sent as patches.

Layer: state.  Threads: the thread that owns the state calls everything here.

=============  ====================================================================================
``marks.py``   ``Round``, ``Private``, ``Unsynced``: the marks of a field in its annotation
``plan.py``    makes the plan of a state from its type; refuses types that cannot be sent
``shadow.py``  the copy that members have: compares the copy with the state, and makes patches
``grid.py``    finds the things near a place, for views
``patch.py``   patches, and their application by clients
=============  ====================================================================================

Read ``patch.py`` first, then ``shadow.py``.  The package does not depend on rooms and clocks.
"""
