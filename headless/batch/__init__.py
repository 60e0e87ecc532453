"""`batch`: any number of pictures through one workflow, on Ray Data.

chunks cuts the input into small groups that come out the same in every run; worker edits a group; ledger keeps a
Parquet file per group; job holds what a results folder belongs to; driver wires them into Ray Data.
"""
