#include "devices/irq/fabric.h"

#include <gtest/gtest.h>

#include "devices/irq/msi.h"
#include "devices/test_support.h"
#include "emu/base/prng.h"

namespace pangea::devices {
namespace {
using testing::FakeRemote;
using testing::FakeTarget;

VcpuId vcpu(unsigned v) { return VcpuId{static_cast<u16>(v)}; }

VcpuSet set_of(std::initializer_list<unsigned> ids) {
  VcpuSet s;
  for (unsigned v : ids) s.insert(vcpu(v));
  return s;
}

// vCPUs 0 and 1 on node 0, 2 on node 1, 3 on node 2; we are node 0.
struct Rig {
  explicit Rig(NodeId self = NodeId{0})
      : fabric(self, {NodeId{0}, NodeId{0}, NodeId{1}, NodeId{2}}, NodeId{0}, &remote) {
    if (self.v == 0) {
      fabric.attach(vcpu(0), a);
      fabric.attach(vcpu(1), b);
    } else {
      fabric.attach(vcpu(2), a);
    }
  }
  FakeRemote remote;
  FakeTarget a, b;
  InterruptFabric fabric;
};

InterruptMessage fixed(u32 destination, u8 vector = 0x40) {
  InterruptMessage m;
  m.destination = destination;
  m.vector = vector;
  return m;
}
InterruptMessage logical(u32 destination, u8 vector = 0x40) {
  InterruptMessage m = fixed(destination, vector);
  m.destination_mode = DestinationMode::Logical;
  return m;
}

TEST(VcpuSet, Basics) {
  const VcpuSet s = set_of({0, 63, 64, 255});
  EXPECT_EQ(s.count(), 4u);
  EXPECT_TRUE(s.contains(vcpu(255)));
  EXPECT_FALSE(s.contains(vcpu(1)));
  std::vector<u16> ids;
  s.for_each([&](VcpuId v) { ids.push_back(v.v); });
  EXPECT_EQ(ids, (std::vector<u16>{0, 63, 64, 255}));
  EXPECT_EQ(VcpuSet::from_words(s.words()), s);
}

TEST(Fabric, PhysicalReachesOneOrAll) {
  Rig r;
  EXPECT_EQ(r.fabric.deliver(fixed(1)), 1u);
  EXPECT_EQ(r.b.got.size(), 1u);
  EXPECT_EQ(r.fabric.deliver(fixed(3)), 1u);
  ASSERT_EQ(r.remote.sent.size(), 1u);
  EXPECT_EQ(r.remote.sent[0].node, NodeId{2});
  EXPECT_EQ(r.remote.sent[0].targets, set_of({3}));
  EXPECT_EQ(r.fabric.deliver(fixed(99)), 0u);
  EXPECT_EQ(r.fabric.deliver(fixed(kBroadcast)), 4u);
  EXPECT_EQ(r.a.got.size(), 1u);
  EXPECT_EQ(r.remote.sent.size(), 3u);
  EXPECT_EQ(r.fabric.stats().unresolved, 1u);
}

TEST(Fabric, FlatClusterAndX2ApicLogical) {
  const DestinationState flat{.x2apic = false, .cluster_model = false, .logical_id = 0x04};
  EXPECT_TRUE(matches_logical(flat, 0x06));
  EXPECT_FALSE(matches_logical(flat, 0x03));
  EXPECT_TRUE(matches_logical(flat, kBroadcast));
  EXPECT_FALSE(matches_logical(flat, 0x104));
  const DestinationState cluster{.x2apic = false, .cluster_model = true, .logical_id = 0x24};
  EXPECT_TRUE(matches_logical(cluster, 0x2c));
  EXPECT_FALSE(matches_logical(cluster, 0x1c));
  EXPECT_FALSE(matches_logical(cluster, 0x23));
  const DestinationState x2{.x2apic = true, .cluster_model = false, .logical_id = 0x0002'0008};
  EXPECT_TRUE(matches_logical(x2, 0x0002'000f));
  EXPECT_FALSE(matches_logical(x2, 0x0001'000f));
  EXPECT_FALSE(matches_logical(x2, 0x0002'0007));
  EXPECT_EQ(DestinationState::unpack(x2.pack()), x2);
  EXPECT_EQ(DestinationState::unpack(cluster.pack()), cluster);
}

TEST(Fabric, LogicalUsesTheReplicaOfRemoteVcpus) {
  Rig r;
  r.fabric.change_destination(vcpu(0), {.logical_id = 1});
  r.fabric.change_destination(vcpu(1), {.logical_id = 2});
  r.fabric.apply_destination(vcpu(2), {.logical_id = 4});
  EXPECT_EQ(r.remote.published.size(), 2u);
  EXPECT_EQ(r.fabric.resolve(logical(6)), set_of({1, 2}));
  EXPECT_EQ(r.fabric.deliver(logical(6)), 2u);
  EXPECT_EQ(r.b.got.size(), 1u);
  ASSERT_EQ(r.remote.sent.size(), 1u);
  EXPECT_EQ(r.remote.sent[0].node, NodeId{1});
  // Saying the same again tells nobody.
  r.fabric.change_destination(vcpu(1), {.logical_id = 2});
  EXPECT_EQ(r.remote.published.size(), 2u);
  r.fabric.apply_destination(VcpuId{999}, {});  // a malformed id is harmless
}

TEST(Fabric, LowestPriorityPrefersThisNodeAndPicksOne) {
  Rig r;
  for (unsigned v = 0; v < 4; ++v) r.fabric.apply_destination(vcpu(v), {.logical_id = 1u << v});
  InterruptMessage m = logical(0xf);
  m.delivery_mode = DeliveryMode::LowestPriority;
  for (unsigned v = 0x30; v < 0x50; ++v) {
    m.vector = static_cast<u8>(v);
    EXPECT_EQ(r.fabric.deliver(m), 1u);
  }
  EXPECT_TRUE(r.remote.sent.empty());
  EXPECT_EQ(r.a.got.size(), 16u);
  EXPECT_EQ(r.b.got.size(), 16u);
  m.destination = 0xc;  // nobody here
  EXPECT_EQ(r.fabric.deliver(m), 1u);
  EXPECT_EQ(r.remote.sent.size(), 1u);
}

TEST(Fabric, Shorthands) {
  Rig r;
  EXPECT_EQ(r.fabric.deliver(vcpu(0), Shorthand::Self, fixed(99)), 1u);
  EXPECT_EQ(r.a.got.size(), 1u);
  EXPECT_EQ(r.fabric.deliver(vcpu(0), Shorthand::AllButSelf, fixed(99)), 3u);
  EXPECT_EQ(r.a.got.size(), 1u);
  EXPECT_EQ(r.b.got.size(), 1u);
  EXPECT_EQ(r.remote.sent.size(), 2u);  // one message per node
  EXPECT_EQ(r.fabric.deliver(vcpu(0), Shorthand::All, fixed(99)), 4u);
  EXPECT_EQ(r.a.got.size(), 2u);
  const FabricStats s = r.fabric.stats();
  EXPECT_EQ(s.local_interrupts, 4u);
  EXPECT_EQ(s.remote_interrupts, 4u);
  EXPECT_EQ(s.remote_messages, 4u);
}

TEST(Fabric, MessageFromAnotherNodeReachesOnlyOurs) {
  Rig r;
  VcpuSet all;
  for (unsigned v = 0; v < 256; ++v) all.insert(vcpu(v));
  r.fabric.deliver_here(all, fixed(0));
  EXPECT_EQ(r.a.got.size() + r.b.got.size(), 2u);
  EXPECT_TRUE(r.remote.sent.empty());
}

TEST(Fabric, EoiGoesToTheIoApicsNode) {
  struct Listener final : EoiListener {
    void eoi(u8 v) override { got.push_back(v); }
    std::vector<u8> got;
  } listener;
  Rig here;
  here.fabric.set_eoi_listener(listener);
  here.fabric.broadcast_eoi(0x55);
  EXPECT_EQ(listener.got, (std::vector<u8>{0x55}));
  Rig there(NodeId{1});
  there.fabric.broadcast_eoi(0x66);
  ASSERT_EQ(there.remote.eois.size(), 1u);
  EXPECT_EQ(there.remote.eois[0], (std::pair{NodeId{0}, u8{0x66}}));
}

TEST(Msi, Decodes) {
  InterruptMessage m = decode_msi(0xfee03000, 0x4061);
  EXPECT_EQ(m.destination, 3u);
  EXPECT_EQ(m.destination_mode, DestinationMode::Physical);
  EXPECT_EQ(m.delivery_mode, DeliveryMode::Fixed);
  EXPECT_EQ(m.vector, 0x61);
  EXPECT_EQ(m.trigger, TriggerMode::Edge);
  m = decode_msi(0xfee0f00c, 0x8161);
  EXPECT_EQ(m.destination_mode, DestinationMode::Logical);
  EXPECT_EQ(m.delivery_mode, DeliveryMode::LowestPriority);
  EXPECT_EQ(m.trigger, TriggerMode::Level);
  EXPECT_EQ(decode_msi(0xfeeff000, 0).destination, kBroadcast);
  EXPECT_TRUE(is_msi_address(0xfeeffffc));
  EXPECT_FALSE(is_msi_address(0xfed00000));
  EXPECT_FALSE(is_msi_address(0x1fee00000));
}

}  // namespace
}  // namespace pangea::devices
