//! Which endpoints' records a change of a Service can bear on, so that listing a change costs what changed.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::net::IpAddr;

use crate::options::Headless;
use crate::store::endpoints::{Endpoints, Row, Slice};
use crate::store::service::Entry;
use crate::zones::Zones;

/// Which endpoints' records are listed.
pub(crate) enum Scope<'a> {
    All,
    /// Those that share an address or a label with one that changed: only they can give a record that it gave or gives.
    Touching(Touched<'a>),
}

/// Addresses and labels of endpoints that changed, sorted.
#[derive(Default)]
pub(crate) struct Touched<'a> {
    addrs: Vec<IpAddr>,
    labels: Vec<&'a [u8]>,
}

impl<'a> Touched<'a> {
    fn add(&mut self, endpoints: &'a Endpoints, rows: &'a [Row]) {
        self.addrs.extend(rows.iter().map(|row| row.addr));
        self.labels.extend(rows.iter().map(|row| endpoints.label(row)));
    }
}

impl Scope<'_> {
    pub(crate) fn takes(&self, endpoints: &Endpoints, row: &Row) -> bool {
        match self {
            Self::All => true,
            Self::Touching(Touched { addrs, labels }) => {
                addrs.binary_search(&row.addr).is_ok() || labels.binary_search(&endpoints.label(row)).is_ok()
            }
        }
    }
}

impl Zones {
    /// The endpoints whose records may differ between two states of a Service.
    pub(crate) fn scope<'a>(&self, old: &'a Entry, new: &'a Entry) -> Scope<'a> {
        let outside =
            self.options.external.as_ref().is_some_and(|external| external.headless == Headless::Served);
        if outside || old.presence != new.presence {
            return Scope::All;
        }
        let mut touched = Touched::default();
        let (mut a, mut b) = (0, 0);
        loop {
            let (slice_a, slice_b) = (old.endpoints.slices().get(a), new.endpoints.slices().get(b));
            let order = match (slice_a, slice_b) {
                (Some(a), Some(b)) => a.name.cmp(&b.name),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let [mut rows_a, mut rows_b] = [&[][..]; 2];
            if order.is_le() {
                rows_a = old.endpoints.slice_rows(a);
            }
            if order.is_ge() {
                rows_b = new.endpoints.slice_rows(b);
            }
            let cluster = |slice: Option<&'a Slice>| slice.map(|slice| &slice.cluster);
            if order.is_eq()
                && cluster(slice_a) == cluster(slice_b)
                && self.slice_ports(old, a) == self.slice_ports(new, b)
            {
                let same = |a: &Row, b: &Row| {
                    (a.addr, a.named, old.endpoints.label(a)) == (b.addr, b.named, new.endpoints.label(b))
                };
                let front = rows_a.iter().zip(rows_b).take_while(|(a, b)| same(a, b)).count();
                rows_a = rows_a.get(front..).unwrap_or_default();
                rows_b = rows_b.get(front..).unwrap_or_default();
                let back =
                    rows_a.iter().rev().zip(rows_b.iter().rev()).take_while(|(a, b)| same(a, b)).count();
                rows_a = rows_a.get(..rows_a.len() - back).unwrap_or_default();
                rows_b = rows_b.get(..rows_b.len() - back).unwrap_or_default();
            }
            touched.add(&old.endpoints, rows_a);
            touched.add(&new.endpoints, rows_b);
            a += usize::from(order.is_le());
            b += usize::from(order.is_ge());
        }
        touched.addrs.sort_unstable();
        touched.labels.sort_unstable();
        Scope::Touching(touched)
    }
}
