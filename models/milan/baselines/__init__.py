"""Published alternatives to MILAN: CLIP-Dissect and Network Dissection."""
