"""Data sets and models of the kinds that users have, each trained or refused by the real ``launch``."""
