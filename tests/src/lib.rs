//! Laws, contracts, faults and the road end to end
