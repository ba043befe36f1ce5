"""Work that is done by several jobs in a folder of its own, and resumed by what is left there."""
