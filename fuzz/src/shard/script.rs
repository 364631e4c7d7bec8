//! From the bytes of an input to settings and steps.

use super::world::{Link, World};
use arbitrary::{Result, Unstructured};
use corelane::base::PacketId;
use corelane::codec::{
    self, Connect, ConnectProperties, Disconnect, PacketType, PropertyId, PublishOut, QoS,
    ReasonCode, RetainHandling, SubscribeOptions, SubscribeOut, UnsubscribeOut, Value, Version,
    Will,
};
use corelane::config::{LateOverflow, Overflow};
use corelane::mesh::MeshSettings;
use corelane::shard::{Placement, Settings, TickBudget};
use std::num::{NonZeroU16, NonZeroU32};

/// Steps at most.
pub const LONGEST: usize = 400;
/// Connections that may stand at a time.
const MOST_LINKS: usize = 10;

const TOPICS: &[&str] = &["a", "a/b", "a/b/c", "b", "b/c", "/x", "$x/y", "w"];
const FILTERS: &[&str] = &[
    "#",
    "a/#",
    "a/+",
    "+/b",
    "+",
    "b/#",
    "a/b",
    "/+",
    "$x/#",
    "w",
    "$share/g/a/#",
    "$share/h/+",
    "$share/g/#",
    "a/#/b",
    "$share//x",
    "",
];
const IDS: &[&str] = &["one", "two", "three", "four", "five", ""];

/// Settings of the shards and of the mesh.
pub fn plan(u: &mut Unstructured<'_>) -> Result<(Settings, MeshSettings)> {
    let block_bytes = *u.choose(&[256, 1024, 4096])?;
    let mesh = MeshSettings {
        block_bytes,
        ring_blocks: *u.choose(&[1, 2, 8])?,
        pool_bytes: block_bytes * 2 * *u.choose(&[2, 3, 16])?,
        reply_slots: *u.choose(&[1, 4, 64])?,
        attached_bytes: *u.choose(&[1, 10_000])?,
        crowd_deliveries: 2,
    };
    let seed = [u.int_in_range(0..=7)?, 7];
    let mut settings = Settings::new(Placement::new(super::world::SHARDS, seed, 2));
    let targets = *u.choose(&[1, 3, 4096])?;
    let turn_bytes = *u.choose(&[1, 1000, 65536])?;
    settings.tick = TickBudget { targets, turn_bytes, crowd: targets };
    let session = &mut settings.session;
    session.max_expiry_s = 100_000;
    session.receive_maximum = *u.choose(&[1, 3, 1024])?;
    session.max_inflight = *u.choose(&[1, 3, 1024])?;
    session.outbox_messages = *u.choose(&[1, 5, 1000])?;
    session.late_messages = *u.choose(&[0, 2, 1024])?;
    session.overflow = *u.choose(&[
        Overflow::DropOldest,
        Overflow::DropNewest,
        Overflow::Disconnect,
        Overflow::Refuse,
    ])?;
    session.late_overflow = *u.choose(&[LateOverflow::DropNewest, LateOverflow::Disconnect])?;
    let limits = &mut settings.limits;
    limits.packet_bytes = *u.choose(&[300, 5000])?;
    limits.unfinished_bytes = *u.choose(&[5000, 100_000])?;
    limits.staging_bytes = 500;
    limits.out_buffer_bytes = *u.choose(&[100, 5000])?;
    limits.answer_bytes = 100;
    limits.subscriptions = 6;
    limits.retained_messages = *u.choose(&[1, 1000])?;
    limits.topic_alias_maximum = 4;
    limits.match_cache_bytes = *u.choose(&[0, 100_000])?;
    limits.sessions = *u.choose(&[2, 1000])?;
    limits.memory_bytes = *u.choose(&[0, 0, 20_000])?;
    settings.doors.lobby = 8;
    Ok((settings, mesh))
}

/// Does one thing, then lets some core turn.
pub fn step(world: &mut World, u: &mut Unstructured<'_>) -> Result<()> {
    act(world, u)?;
    match u.int_in_range(0..=5u8)? {
        0 => world.turn(0),
        1 => world.turn(1),
        2 => world.settle(4),
        _ => {}
    }
    Ok(())
}

fn act(world: &mut World, u: &mut Unstructured<'_>) -> Result<()> {
    let verb = u.int_in_range(0..=23u8)?;
    if verb <= 2 || world.links.is_empty() {
        return connect(world, u);
    }
    if verb == 3 {
        let pause = *u.choose(&[1_000, 50_000, 1_000_000, 7_000_000, 100_000_000])?;
        world.now.0 += pause;
        return Ok(());
    }
    let at = u.choose_index(world.links.len())?;
    let (link, serial) = (&mut world.links[at], &mut world.serial);
    let version = link.version;
    let mut out = Vec::new();
    match verb {
        4..=9 => publish(version, serial, u, &mut out)?,
        10..=12 => subscribe(version, u, &mut out)?,
        13 => unsubscribe(version, u, &mut out)?,
        14 => acknowledge(version, u, &mut out)?,
        15 | 16 => {
            let most = u.int_in_range(1..=20)?;
            link.view.reply(most, &mut out);
        }
        17 => codec::encode_pingreq(&mut out),
        18 => disconnect(version, u, &mut out)?,
        19 => out.extend(u.bytes(u.len().min(12))?),
        20 => link.piece = *u.choose(&[1, 3, 40, 100_000])?,
        21 => link.lazy = u.arbitrary()?,
        22 => link.leave(u.arbitrary()?),
        _ => link.mangle = Some((u.arbitrary()?, u.arbitrary()?)),
    }
    link.write(out);
    Ok(())
}

fn qos(u: &mut Unstructured<'_>) -> Result<QoS> {
    Ok(*u.choose(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])?)
}

fn packet_id(u: &mut Unstructured<'_>) -> Result<PacketId> {
    let id = u.int_in_range(1..=6)?;
    Ok(PacketId::new(id).unwrap_or(PacketId::MIN))
}

fn connect(world: &mut World, u: &mut Unstructured<'_>) -> Result<()> {
    if world.links.len() >= MOST_LINKS {
        return Ok(());
    }
    let core = u.choose_index(super::world::SHARDS)?;
    let version = *u.choose(&[Version::V5, Version::V311, Version::V31])?;
    let mut properties = ConnectProperties::default();
    if version == Version::V5 {
        properties.session_expiry = Some(*u.choose(&[0, 5, 90_000])?);
        properties.receive_maximum = NonZeroU16::new(*u.choose(&[1, 2, 0])?);
        properties.maximum_packet_size = NonZeroU32::new(*u.choose(&[0, 0, 25, 60])?);
        properties.topic_alias_maximum = *u.choose(&[0, 1, 10])?;
        properties.request_problem_information = u.arbitrary()?;
    }
    let will = match u.int_in_range(0..=3u8)? {
        0 => Some(Will {
            qos: qos(u)?,
            retain: u.arbitrary()?,
            topic: TOPICS[u.choose_index(TOPICS.len())?],
            payload: b"will",
            delay_s: if version == Version::V5 { *u.choose(&[0, 3])? } else { 0 },
            ..Will::default()
        }),
        _ => None,
    };
    let packet = Connect {
        version,
        clean_start: u.arbitrary()?,
        keep_alive: *u.choose(&[0, 1, 60])?,
        client_id: IDS[u.choose_index(IDS.len())?],
        will,
        properties,
        ..Connect::default()
    };
    let mut out = Vec::new();
    packet.encode(&mut out);
    if let Some(mut link) = world.open(core, version) {
        Link::write(&mut link, out);
        world.links.push(link);
    }
    Ok(())
}

fn publish(
    version: Version,
    serial: &mut u32,
    u: &mut Unstructured<'_>,
    out: &mut Vec<u8>,
) -> Result<()> {
    // A repetition carries the same payload, everything else one of its own.
    let dup = u.ratio(1, 5)?;
    *serial += u32::from(!dup);
    let filler = *u.choose(&[0, 0, 20, 200, 4500])?;
    let mut payload = serial.to_be_bytes().to_vec();
    payload.resize(4 + filler, b'x');
    let qos = qos(u)?;
    let topic = TOPICS[u.choose_index(TOPICS.len())?];
    let alias = if version == Version::V5 { *u.choose(&[0, 0, 1, 2, 5])? } else { 0 };
    let nameless = alias != 0 && u.arbitrary()?;
    let mut forwarded = Vec::new();
    if version == Version::V5 && u.ratio(1, 4)? {
        let pair = Value::Pair("key", "value");
        codec::put_property(&mut forwarded, PropertyId::UserProperty, pair);
    }
    let retain = u.ratio(1, 6)?;
    PublishOut {
        dup: dup && qos != QoS::AtMostOnce,
        qos,
        retain,
        topic: if nameless { "" } else { topic },
        packet_id: if qos == QoS::AtMostOnce { None } else { Some(packet_id(u)?) },
        alias: (alias != 0).then_some(alias),
        expiry_s: if u.ratio(1, 5)? { Some(u.int_in_range(0..=3)?) } else { None },
        forwarded: &forwarded,
        payload: if retain && filler == 20 { &[] } else { &payload },
        ..PublishOut::default()
    }
    .encode(version, out);
    Ok(())
}

fn subscribe(version: Version, u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let mut filters = Vec::new();
    for _ in 0..u.int_in_range(1..=3u8)? {
        let filter = FILTERS[u.choose_index(FILTERS.len())?];
        let options = SubscribeOptions {
            qos: qos(u)?,
            no_local: u.ratio(1, 5)?,
            retain_as_published: u.arbitrary()?,
            retain_handling: *u.choose(&[
                RetainHandling::Send,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ])?,
        };
        filters.push((filter, options));
    }
    let subscription_id = NonZeroU32::new(*u.choose(&[0, 1, 300])?);
    SubscribeOut { packet_id: packet_id(u)?, subscription_id, filters: &filters }
        .encode(version, out);
    Ok(())
}

fn unsubscribe(version: Version, u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let filters = [FILTERS[u.choose_index(FILTERS.len())?]];
    UnsubscribeOut { packet_id: packet_id(u)?, filters: &filters }.encode(version, out);
    Ok(())
}

fn acknowledge(version: Version, u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let kind = *u.choose(&[
        PacketType::Puback,
        PacketType::Pubrec,
        PacketType::Pubrel,
        PacketType::Pubcomp,
    ])?;
    let refuses = u.ratio(1, 5)?;
    let reason = match kind {
        PacketType::Puback | PacketType::Pubrec if refuses => ReasonCode::QUOTA_EXCEEDED,
        _ => ReasonCode::SUCCESS,
    };
    codec::encode_ack(kind, version, packet_id(u)?, reason, None, out);
    Ok(())
}

fn disconnect(version: Version, u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let with_will = u.arbitrary()?;
    let reason = if with_will { ReasonCode::DISCONNECT_WITH_WILL } else { ReasonCode::SUCCESS };
    let session_expiry = *u.choose(&[None, Some(0), Some(10)])?;
    Disconnect { reason, session_expiry, ..Disconnect::default() }.encode(version, out);
    Ok(())
}
