//! Addresses of a cluster: one /16 of 10.0.0.0/8 per cluster, chosen by the cluster's name.

use std::net::Ipv4Addr;

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

/// First second octet that we use. The usual pod and service ranges of other tools (10.42, 10.43, 10.96, 10.244) lie elsewhere.
const FIRST_BLOCK: u8 = 208;
/// Number of blocks, hence of clusters side by side.
const BLOCKS: u8 = 16;
/// Name of the cluster that always has the first block.
pub const DEFAULT_NAME: &str = "maniple";

/// All addresses of one cluster, below `10.<block>.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AddressPlan {
    /// Second octet.
    pub block: u8,
}

impl AddressPlan {
    /// The plan that belongs to a cluster name.
    pub fn for_name(name: &str) -> Self {
        if name == DEFAULT_NAME {
            return Self { block: FIRST_BLOCK };
        }
        let digest = Sha256::digest(name.as_bytes());
        Self {
            block: FIRST_BLOCK + 1 + digest[0] % (BLOCKS - 1),
        }
    }

    fn ip(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.block, third, fourth)
    }

    /// Everything that is routed to the cluster.
    pub fn whole(self) -> String {
        format!("10.{}.0.0/16", self.block)
    }

    /// Range of all pods, also of simulated nodes.
    pub fn cluster_cidr(self) -> String {
        format!("10.{}.0.0/17", self.block)
    }

    /// Range of the pods of the one real node: 4,094 addresses, so that an address is not reused at once.
    pub fn pod_cidr(self) -> String {
        format!("10.{}.0.0/20", self.block)
    }

    /// The pods' gateway, an address of the node.
    pub fn pod_gateway(self) -> Ipv4Addr {
        self.ip(0, 1)
    }

    /// Range of ClusterIPs.
    pub fn service_cidr(self) -> String {
        format!("10.{}.128.0/18", self.block)
    }

    /// ClusterIP of the service `kubernetes`.
    pub fn api_service(self) -> Ipv4Addr {
        self.ip(128, 1)
    }

    /// ClusterIP of the cluster's DNS server.
    pub fn dns_service(self) -> Ipv4Addr {
        self.ip(128, 10)
    }

    /// Address of the node; API server and Azurite listen here.
    pub fn node(self) -> Ipv4Addr {
        self.ip(255, 2)
    }

    /// Address of this machine as seen from the cluster.
    pub fn host(self) -> Ipv4Addr {
        self.ip(255, 1)
    }

    /// Fails when an address or route of this machine lies in our range.
    ///
    /// `addresses_and_routes` is the text of `ip -4 -o addr show` and `ip -4 route show table all`; lines that name
    /// `own_interface` are ours.
    pub fn check_collision(self, addresses_and_routes: &str, own_interface: &str) -> Result<()> {
        for line in addresses_and_routes.lines() {
            if line.contains(own_interface) {
                continue;
            }
            for word in line.split_whitespace() {
                let Some((start, end)) = range(word) else {
                    continue;
                };
                let (own_start, own_end) = (u32::from(self.ip(0, 0)), u32::from(self.ip(255, 255)));
                if start <= own_end && end >= own_start && end - start < u32::MAX / 2 {
                    bail!(
                        "the cluster's addresses {} overlap {word:?} which this machine uses already ({}): choose a free block with --address-block",
                        self.whole(),
                        line.trim()
                    );
                }
            }
        }
        Ok(())
    }
}

/// First and last address of `a.b.c.d` or `a.b.c.d/len`.
fn range(word: &str) -> Option<(u32, u32)> {
    let (address, length) = word.split_once('/').unwrap_or((word, "32"));
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    let length: u32 = length.parse().ok().filter(|l| *l <= 32)?;
    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
    Some((address & mask, address | !mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_each_other() {
        let plan = AddressPlan::for_name(DEFAULT_NAME);
        let pods = range(&plan.cluster_cidr()).expect("valid");
        let services = range(&plan.service_cidr()).expect("valid");
        let whole = range(&plan.whole()).expect("valid");
        assert!(pods.1 < services.0 && services.1 < u32::from(plan.host()));
        for address in [
            plan.node(),
            plan.host(),
            plan.dns_service(),
            plan.pod_gateway(),
        ] {
            assert!((whole.0..=whole.1).contains(&u32::from(address)));
        }
        assert!((services.0..=services.1).contains(&u32::from(plan.api_service())));
    }

    #[test]
    fn other_clusters_stay_out_of_the_default_block() {
        for name in ["a", "b", "life", "t1", "other"] {
            let block = AddressPlan::for_name(name).block;
            assert!(
                (FIRST_BLOCK + 1..FIRST_BLOCK + BLOCKS).contains(&block),
                "{name}: {block}"
            );
        }
    }

    #[test]
    fn collisions_are_found_and_our_own_interface_is_not_one() {
        let plan = AddressPlan { block: 208 };
        let own = "mnp-maniple";
        let free = "1: lo inet 127.0.0.1/8 scope host lo\ndefault via 192.0.2.1 dev eth0\n10.96.0.0/12 dev x";
        assert!(plan.check_collision(free, own).is_ok());
        assert!(
            plan.check_collision("10.208.0.0/16 via 10.208.255.2 dev mnp-maniple", own)
                .is_ok()
        );
        assert!(
            plan.check_collision("0.0.0.0/0 via 192.0.2.1 dev eth0", own)
                .is_ok()
        );
        for taken in [
            "10.208.3.0/24 dev tun0",
            "10.0.0.0/8 dev wg0",
            "local 10.208.255.1 dev eth1",
        ] {
            let error = plan
                .check_collision(taken, own)
                .expect_err(taken)
                .to_string();
            assert!(error.contains("--address-block"), "{error}");
        }
    }
}
