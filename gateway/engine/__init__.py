"""Works on jobs: buys, follows, delivers, rescues. Decides nothing that `gateway/jobs` does not allow."""
