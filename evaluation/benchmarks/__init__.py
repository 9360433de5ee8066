"""Side-by-side speed measurements, one module a method (`conceptry benchmark NAME`)."""
