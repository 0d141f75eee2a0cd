"""The guarantees G1 to G9, each sentence a test, from the outside: public names, real peers."""
