//! Conversions of scalars, and through options, lists and maps.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString as TheirIntOrString;
use k8s_openapi::jiff;
use smol_str::SmolStr;

use crate::scalar::Scalar;
use crate::{IntOrString, Labels, Port, Sent, Timestamp};

/// `From`, as the orphan rule lets us have it between foreign types.
pub(super) trait Convert<T> {
    fn convert(&self) -> T;
}

impl<A: Convert<B>, B> Convert<Option<B>> for Option<A> {
    fn convert(&self) -> Option<B> {
        self.as_ref().map(Convert::convert)
    }
}

impl<A: Convert<B>, B> Convert<Vec<B>> for Vec<A> {
    fn convert(&self) -> Vec<B> {
        self.iter().map(Convert::convert).collect()
    }
}

impl<A: Convert<B>, B> Convert<Vec<B>> for Option<Vec<A>> {
    fn convert(&self) -> Vec<B> {
        self.iter().flatten().map(Convert::convert).collect()
    }
}

impl<A: Convert<B>, B> Convert<Option<Vec<B>>> for Vec<A> {
    fn convert(&self) -> Option<Vec<B>> {
        (!self.is_empty()).then(|| self.convert())
    }
}

/// Numbers and truth values: 0 and false stand for absence.
macro_rules! numbers {
    ($($ours:ty = $theirs:ty, $to_ours:expr, $to_theirs:expr;)*) => {$(
        impl Convert<$ours> for $theirs {
            fn convert(&self) -> $ours {
                $to_ours(*self)
            }
        }

        impl Convert<$ours> for Option<$theirs> {
            fn convert(&self) -> $ours {
                $to_ours(self.unwrap_or_default())
            }
        }

        impl Convert<Option<$theirs>> for $ours {
            fn convert(&self) -> Option<$theirs> {
                let theirs: $theirs = $to_theirs(*self);
                (theirs != <$theirs>::default()).then_some(theirs)
            }
        }
    )*};
}

numbers! {
    bool = bool, |ours| ours, |theirs| theirs;
    i32 = i32, |ours| ours, |theirs| theirs;
    i64 = i64, |ours| ours, |theirs| theirs;
    Port = i32, Port::new, Port::value;
}

impl Convert<i32> for Port {
    fn convert(&self) -> i32 {
        self.value()
    }
}

/// Text: the empty text stands for absence.
macro_rules! text {
    ($([$($generic:tt)*] $ours:ty, $to_ours:expr, $to_theirs:expr;)*) => {$(
        impl$($generic)* Convert<$ours> for String {
            fn convert(&self) -> $ours {
                $to_ours(self)
            }
        }

        impl$($generic)* Convert<$ours> for Option<String> {
            fn convert(&self) -> $ours {
                $to_ours(self.as_deref().unwrap_or_default())
            }
        }

        impl$($generic)* Convert<String> for $ours {
            fn convert(&self) -> String {
                $to_theirs(self)
            }
        }

        impl$($generic)* Convert<Option<String>> for $ours {
            fn convert(&self) -> Option<String> {
                (!self.is_empty()).then(|| $to_theirs(self))
            }
        }
    )*};
}

text! {
    [] SmolStr, |theirs: &str| SmolStr::new(theirs), |ours: &SmolStr| ours.as_str().to_owned();
    [<T: Scalar>] Sent<T>, |theirs: &str| Sent::new(theirs), |ours: &Self| ours.to_string();
}

impl Convert<IntOrString> for TheirIntOrString {
    fn convert(&self) -> IntOrString {
        match self {
            Self::Int(value) => IntOrString::Int(*value),
            Self::String(name) => IntOrString::String(SmolStr::new(name)),
        }
    }
}

impl Convert<TheirIntOrString> for IntOrString {
    fn convert(&self) -> TheirIntOrString {
        match self {
            Self::Int(value) => TheirIntOrString::Int(*value),
            Self::String(name) => TheirIntOrString::String(name.as_str().to_owned()),
        }
    }
}

impl Convert<Labels> for BTreeMap<String, String> {
    fn convert(&self) -> Labels {
        self.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }
}

impl Convert<BTreeMap<String, String>> for Labels {
    fn convert(&self) -> BTreeMap<String, String> {
        self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

impl Convert<Labels> for Option<BTreeMap<String, String>> {
    fn convert(&self) -> Labels {
        self.as_ref().map(Convert::convert).unwrap_or_default()
    }
}

impl Convert<Option<BTreeMap<String, String>>> for Labels {
    fn convert(&self) -> Option<BTreeMap<String, String>> {
        (!self.is_empty()).then(|| self.convert())
    }
}

impl Convert<Labels> for Option<BTreeMap<String, Quantity>> {
    fn convert(&self) -> Labels {
        self.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_str())).collect()
    }
}

impl Convert<Option<BTreeMap<String, Quantity>>> for Labels {
    fn convert(&self) -> Option<BTreeMap<String, Quantity>> {
        let quantities = || self.iter().map(|(key, value)| (key.to_owned(), Quantity(value.to_owned())));
        (!self.is_empty()).then(|| quantities().collect())
    }
}

// Both sides count nanoseconds over the same years, though with two versions of one crate.

impl Convert<Option<Timestamp>> for Time {
    fn convert(&self) -> Option<Timestamp> {
        Timestamp::from_unix_nanoseconds(self.0.as_nanosecond())
    }
}

impl Convert<Option<Timestamp>> for Option<Time> {
    fn convert(&self) -> Option<Timestamp> {
        self.as_ref().and_then(Convert::convert)
    }
}

impl Convert<Option<Time>> for Option<Timestamp> {
    fn convert(&self) -> Option<Time> {
        jiff::Timestamp::from_nanosecond(self.as_ref()?.unix_nanoseconds()).ok().map(Time)
    }
}

impl Convert<Time> for Option<Timestamp> {
    fn convert(&self) -> Time {
        let time: Option<Time> = self.convert();
        time.unwrap_or(Time(jiff::Timestamp::UNIX_EPOCH))
    }
}
