"""Pools of small supernets whose every architecture is in a table: what policies learn from that transfer."""
