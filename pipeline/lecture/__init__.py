"""The lecture's claims: studies that say beforehand what must come out, and a page of each."""
