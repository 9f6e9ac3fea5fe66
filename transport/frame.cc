#include "transport/frame.h"

#include <algorithm>

#include "emu/base/assert.h"
#include "transport/envelope.pb.h"

namespace pangea::transport {

std::string_view drop_text(Drop d) {
  constexpr std::string_view kTexts[kDrops] = {
#define X(name, text) text,
      PANGEA_FRAME_DROPS(X)
#undef X
  };
  return kTexts[static_cast<usize>(d)];
}

FrameWriter::FrameWriter(u64 machine, NodeId sender, Channel channel) : envelope_(std::make_unique<wire::Envelope>()) {
  envelope_->set_machine(machine);
  envelope_->set_sender(sender.v);
  envelope_->set_channel(static_cast<u32>(channel));
}
FrameWriter::~FrameWriter() = default;
FrameWriter::FrameWriter(FrameWriter&&) noexcept = default;

usize FrameWriter::prepare(u64 guest_time, Bytes header) {
  envelope_->set_sequence(++sequence_);
  envelope_->set_guest_time(guest_time);
  envelope_->set_header(header.data(), header.size());
  envelope_->set_probe(false);
  return kEnvelopeSizeBytes + envelope_->ByteSizeLong();
}

usize FrameWriter::prepare_probe() {
  prepare(0, {});
  envelope_->set_probe(true);
  return kEnvelopeSizeBytes + envelope_->ByteSizeLong();
}

void FrameWriter::write(std::span<u8> out, Bytes payload) {
  const usize envelope = static_cast<usize>(envelope_->GetCachedSize());
  PANGEA_ASSERT(kEnvelopeSizeBytes + envelope + payload.size() == out.size());
  out[0] = static_cast<u8>(envelope);
  out[1] = static_cast<u8>(envelope >> 8);
  u8* end = envelope_->SerializeWithCachedSizesToArray(&out[kEnvelopeSizeBytes]);
  std::copy(payload.begin(), payload.end(), end);
}

FrameReader::FrameReader(u64 machine, NodeId self, Channel channel, usize nodes)
    : envelope_(std::make_unique<wire::Envelope>()), machine_(machine), self_(self), channel_(channel), last_(nodes) {}
FrameReader::~FrameReader() = default;
FrameReader::FrameReader(FrameReader&&) noexcept = default;

Verdict FrameReader::read(Bytes frame, Frame& out) {
  if (frame.size() < kEnvelopeSizeBytes) return {.drop = Drop::Malformed};
  const usize envelope_bytes = frame[0] | usize{frame[1]} << 8;
  const Bytes rest = frame.subspan(kEnvelopeSizeBytes);
  if (envelope_bytes > rest.size()) return {.drop = Drop::Malformed};
  const Bytes envelope = rest.first(envelope_bytes), payload = rest.subspan(envelope_bytes);
  if (envelope.size() > kEnvelopeMax || payload.size() > payload_max(channel_)) return {.drop = Drop::Oversized};
  if (!envelope_->ParseFromArray(envelope.data(), static_cast<int>(envelope.size()))) return {.drop = Drop::Malformed};
  const Verdict v = check(payload);
  if (v.drop) return v;
  u64& last = last_[envelope_->sender()];
  out.from = NodeId{static_cast<u16>(envelope_->sender())};
  if (envelope_->sequence() <= last) return {.drop = Drop::Replayed};
  if (envelope_->sequence() != last + 1) return {.missing = envelope_->sequence() - last - 1};
  last = envelope_->sequence();
  out.guest_time = envelope_->guest_time();
  out.probe = envelope_->probe();
  const std::string& h = envelope_->header();
  out.header = {reinterpret_cast<const u8*>(h.data()), h.size()};
  out.payload = payload;
  return {};
}

Verdict FrameReader::check(Bytes payload) const {
  const wire::Envelope& e = *envelope_;
  if (e.machine() != machine_) return {.drop = Drop::WrongMachine};
  if (e.sender() >= last_.size() || e.sender() == self_.v) return {.drop = Drop::UnknownSender};
  if (e.channel() != static_cast<u32>(channel_)) return {.drop = Drop::WrongChannel};
  if (e.header().size() > kHeaderMax) return {.drop = Drop::Oversized};
  if (e.probe() && !(e.header().empty() && payload.empty())) return {.drop = Drop::Malformed};
  return {};
}
}  // namespace pangea::transport
