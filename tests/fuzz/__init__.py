"""What must hold whatever bytes come: targets, and a run of them that is as long as it may be."""
