//! Endpoints objects hold 1,000 addresses at most; what is above is cut off in proportion.

use svc_model::EndpointSubset;

/// Most addresses, ready or not, that an Endpoints object holds.
pub const MAX_ADDRESSES: usize = 1000;

/// What [`truncate_subsets`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Truncation {
    /// Nothing: there are [`MAX_ADDRESSES`] or fewer.
    NotNeeded,
    /// Addresses were cut off.
    Truncated,
}

/// Cuts addresses off until [`MAX_ADDRESSES`] are left.
///
/// Ready addresses go first: if there are more of them than fit, all others are dropped and the ready ones are
/// cut; otherwise only the others are. Every subset keeps the beginning of its list, in proportion to its
/// length, rounded up; the last ones get what remains. A subset may be left without any address, which the API
/// server then refuses (the reference does the same).
pub fn truncate_subsets(subsets: &mut [EndpointSubset]) -> Truncation {
    let ready: usize = subsets.iter().map(|subset| subset.addresses.len()).sum();
    let not_ready: usize = subsets.iter().map(|subset| subset.not_ready_addresses.len()).sum();
    if ready + not_ready <= MAX_ADDRESSES {
        return Truncation::NotNeeded;
    }
    if ready > MAX_ADDRESSES {
        let mut left = MAX_ADDRESSES;
        for subset in subsets {
            let quota = share(subset.addresses.len(), ready, MAX_ADDRESSES).min(left);
            subset.addresses.truncate(quota);
            subset.not_ready_addresses.clear();
            left -= subset.addresses.len();
        }
    } else {
        let room = MAX_ADDRESSES - ready;
        let mut left = room;
        for subset in subsets {
            let quota = share(subset.not_ready_addresses.len(), not_ready, room).min(left);
            subset.not_ready_addresses.truncate(quota);
            left -= subset.not_ready_addresses.len();
        }
    }
    Truncation::Truncated
}

/// `part / whole * room`, rounded up, with the rounding errors of the reference, which divides first.
fn share(part: usize, whole: usize, room: usize) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "numbers of addresses are far below 2^52")]
    let exact = part as f64 / whole as f64 * room as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let floor = exact as usize;
    #[expect(clippy::cast_precision_loss, reason = "0 to 1000")]
    let is_whole = floor as f64 >= exact;
    if is_whole { floor } else { floor + 1 }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use svc_model::{EndpointAddress, EndpointSubset};

    use super::{Truncation, truncate_subsets};

    fn lengths(before: &[(usize, usize)]) -> (Truncation, Vec<(usize, usize)>) {
        let subset = |&(ready, not_ready): &(usize, usize)| EndpointSubset {
            addresses: vec![EndpointAddress::default(); ready],
            not_ready_addresses: vec![EndpointAddress::default(); not_ready],
            ports: Vec::new(),
        };
        let mut subsets: Vec<EndpointSubset> = before.iter().map(subset).collect();
        let outcome = truncate_subsets(&mut subsets);
        (outcome, subsets.iter().map(|s| (s.addresses.len(), s.not_ready_addresses.len())).collect())
    }

    #[test]
    fn a_subset_of_addresses_that_are_not_ready_may_be_left_empty() {
        assert_eq!(lengths(&[(1001, 5), (0, 7)]), (Truncation::Truncated, vec![(1000, 0), (0, 0)]));
        assert_eq!(lengths(&[(990, 5), (0, 5)]), (Truncation::NotNeeded, vec![(990, 5), (0, 5)]));
    }
}
