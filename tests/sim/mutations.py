#!/usr/bin/env python3
"""Puts one-line mistakes into the coherence protocol, the hand-over of pages and the soft TLB, and checks that
the tests go red for each of them. The tree itself is not touched.

usage: tests/sim/mutations.py BUILD_DIR [NAME...]      BUILD_DIR: configured with meson, tests built
A survivor is a hole in the tests (or a line that does nothing). Exit status: number of survivors.
"""
import json, pathlib, re, shutil, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# name, file, text as it stands, text with the mistake
MUTATIONS = [
    ('installs before the acknowledgements', 'requester.cc', '!found->granted || (found->expected & ~found->acks)', '!found->granted'),
    ('one sharer is not invalidated', 'directory.cc', 'for (u64 rest = others; rest', 'for (u64 rest = others & (others - 1); rest'),
    ('and is not waited for either', 'directory.cc', 'holders & ~bit_of(granter);', 'holders & ~bit_of(granter) & ~(holders & -holders);'),
    ('a reader is not noted as sharer', 'directory.cc', 'e.sharers |= bit_of(p.node);', ';'),
    ('a request clears the sharers', 'directory.cc', 'e.sharers |= bit_of(p.node);', 'e.sharers = bit_of(p.node);'),
    ('answers before the hand-over', 'holder.cc', 'next_token_++;', 'next_token_++;\n  answer(order);'),
    ('lowers the right before the hand-over only', 'holder.cc', 'if (order.kind != Order::Kind::Drop) answer(order);', ''),
    ('stale bytes taken for current', 'directory.cc', 'p.want == Want::Write && p.have != e.version;', 'p.want == Want::Write && p.have + 1 < e.version;'),
    ('stale bytes taken for current by readers', 'directory.cc', 'e.modified || (p.have != e.version &&', 'e.modified || (p.have + 1 < e.version &&'),
    ('untouched pages assumed everywhere', 'directory.cc', 'e.modified || (p.have != e.version &&', 'e.modified || (p.have != e.version && p.have != 0 &&'),
    ('writing does not count the version up', 'directory.cc', 'm.version = e.version + 1;', 'm.version = e.version;'),
    ('16-bit versions', 'directory.cc', 'm.version = e.version + 1;', 'm.version = (e.version + 1) & 0xf;'),
    ('holds tested the wrong way round', 'holder.cc', 'if (until <= s_.now_ns) return surrender', 'if (until > s_.now_ns) return surrender'),
    ('no holds', 'requester.cc', 's_.holds.installed(page, agents, s_.now_ns);', ''),
    ('holds without order', 'requester.cc', 's_.holds.waits_for(agent, page);', ''),
    ('deferred hand-overs forgotten', 'protocol.cc', 'p.holder.retry_deferred();', ''),
    ('the source may drop its copy', 'evictor.cc', 'if (!s_.local.source(page)) return Giving::Silent;', 'return Giving::Silent;'),
    ('a downgraded writer forgets that it is the source', 'holder.cc', 'kept && s_.local.source(page)', 'false'),
    ('a drop keeps the version', 'holder.cc', 's_.local.set_version(page, 0);', ''),
    ('a request overtakes a drop', 'requester.cc', 'if (!order || !order->discard) send', 'send'),
    ('a request that waited for a drop is lost', 'protocol.cc', '  requester.resume(e.page);\n', ''),
    ('an invalidation during a drop is lost', 'holder.cc', 'dropping->kind = order.kind;', ''),
    ('the granter is waited for twice', 'directory.cc', 'm.nodes = others;', 'm.nodes = holders;'),
    ('the FIFO loses who waits', 'directory.cc', 'if (after == kNone) return transactions_.erase(page);', 'return transactions_.erase(page);'),
    ('requests under way never end', 'directory.cc', 'under_way_[pool_[slot].node.v]--;', ''),
    ('the home taken for a source it is not', 'directory.cc', 'if (p.node == s_.cfg.self) e.owner', 'e.owner'),
    ('transactions overlap', 'directory.cc', '  if (t) {\n', '  if (t) start_head(msg.page);\n  if (t) {\n'),
    ('a lost node wakes nobody', 'protocol.cc', '  requester.wake_all();', ''),
    ('a lost node is reported each time', 'protocol.cc', '  dead = true;', ''),
    ('a page that begins with zeros taken for zero', 'executor.cc', 'return first == 0 && std::memcmp(page, page + sizeof first, kPageSize - sizeof first) == 0;', 'return first == 0;'),
    ('a claim shows old bytes', 'requester.cc', 's_.out->push_back(Fill{msg.page, FillSource::Claim});', ''),
    ('a zero page is not filled', 'requester.cc', 's_.out->push_back(Fill{msg.page, zero ? FillSource::Zero : FillSource::Message});', 'if (!zero) s_.out->push_back(Fill{msg.page, FillSource::Message});'),
    ('refused agents are forgotten', 'requester.cc', '  }\n  s_.outstanding.erase(page);\n  wake_refused();', '  }\n  s_.outstanding.erase(page);'),
    ('nobody is woken', 'requester.cc', 's_.out->push_back(Wake{page});\n}\n\nvoid Requester::finish', '}\n\nvoid Requester::finish'),
    ('a grant that waits for acknowledgements ends its transaction', 'state.cc', 'grant.nodes == 0 && ', ''),
    ('a grant by anybody ends its transaction', 'state.cc', ' && home(grant.page) == from', ''),
    ('Done before Install is forgotten', 'requester.cc', 's_.post(s_.home(page), done);', ''),
    ('a merged writer gets a read right', 'requester.cc', 'if (!write && o.wants_write) {', 'if (false) {'),
    ('replayed requests are served', 'directory.cc', 'if (msg.serial <= last_serial_[from.v]) return', 'if (false) return'),
    ('a peer may fill the pool', 'directory.cc', 'if (under_way_[from.v] >= s_.cfg.max_requests) return', 'if (false) return'),
    ('anybody may order', 'protocol.cc', 'if (*home != e.from) return', 'if (false) return'),
    ('a grant may come twice', 'requester.cc', '!o || !o->sent || o->granted || o->serial', '!o || !o->sent || o->serial'),
    ('an acknowledgement may come twice', 'requester.cc', ' || (o->acks & bit_of(from)))', ')'),
    ('bytes accepted into a visible frame', 'requester.cc', ' && content > ours && right == Right::None;', ' && content > ours;'),
    ('an order during a hand-over', 'holder.cc', 'if (o && o->granted) return false;', ''),
    ('a request never times out', 'protocol.cc', 'const Fatal* fatal = p.requester.timed_out();', 'const Fatal* fatal = nullptr;'),
    ('a zero page keeps its owner', 'directory.cc', 'e.owner = DirectoryEntry::kNobody;  //', ';  //'),
    ('a page that was written meanwhile goes as zero', 'holder.cc', 'if (order.if_zero && !zero) {', 'if (false) {'),
    ('who waited for the end of a drop at the home is lost', 'directory.cc', 'start_head(page);\n}\n\nvoid Directory::next', '}\n\nvoid Directory::next'),
    ('only the home is asked to take a page', 'evictor.cc', 'if (o->to != s_.cfg.self && s_.local.source(msg.page)) {', 'if (false) {'),
    ('a full node takes pages in', 'evictor.cc', 's_.local.framed(msg.page) || has_room_for_others();', 'true;'),
    ('a page that was taken keeps its frame', 'holder.cc', 'if (!s_.outstanding.find(page)) s_.give_frame(page);', ''),
    ('a frame goes although an agent wants the page again', 'holder.cc', 'if (!s_.outstanding.find(page)) s_.give_frame(page);', 's_.give_frame(page);'),
    ('who waits for a frame waits for ever', 'requester.cc', 's_.take_frame(frame_queue_[n]); n++)', 's_.take_frame(frame_queue_[n]) && n > 0; n++)'),
    ('a request is sent without a frame', 'requester.cc', 'if (s_.local.framed(page) || (frame_queue_.empty() && s_.has_room())) {', 'if (true) {'),
    ('held pages are given up', 'evictor.cc', 'if (s_.holds.held_until_ns(page) > s_.now_ns) return Giving::Nothing;', ''),
    ('nobody notices that all are full', 'evictor.cc', 'f->rounds++;', ''),
    ('the machine ends although nobody waits', 'evictor.cc', 'full.rounds != 0 && waits &&', 'full.rounds != 0 &&'),
    ('a machine of one node offers itself its pages', 'evictor.cc', '  if (to == s_.cfg.self) return all_refused();', '  '),
    ('an offer never times out', 'requester.cc', '  s_.offers.for_each([&](PageNumber page, OfferOut& o) { look(page, o.to, o.since_ns); });\n', ''),
    ('what was not sent times out', 'requester.cc', 'if (o.sent) look(', 'look('),
    ('who was turned away sleeps through the end', 'requester.cc', 'Wake{page}); });\n  wake_refused();', 'Wake{page}); });'),
    ('an undone drop wakes nobody who was turned away', 'requester.cc', '  wake_refused();\n}\n\nvoid Requester::on_ack', '}\n\nvoid Requester::on_ack'),
    ('a grant to who has still to let go', 'requester.cc', 'if (s_.orders.find(msg.page)) return false;', ''),
    ('a request that is under way comes again', 'directory.cc', 'if (pool_[i].node == from) return', 'if (false) return'),
    ('a grant out of turn', 'directory.cc', 'return p.node == s_.cfg.self && p.serial', 'return p.serial'),
    ('a home that lies fills the orders', 'holder.cc', 'if (from != s_.cfg.self && peer_orders_ >=', 'if (false && peer_orders_ >='),
    ('who waits for a page keeps it', 'holds.cc', 'h.page.v >= page.v', 'h.page.v > page.v'),
    ('refusals of long ago end the machine', 'evictor.cc', 'long_ago() || full.moved', 'full.moved'),
    ('frames that came free in between do not count', 'evictor.cc', 'if (long_ago() || full.moved != moved(full) || overfull() == 0) full.rounds = 0;', ''),
    ('a few refusals are enough', 'evictor.cc', 'full.rounds < kFullRounds', 'full.rounds < 1'),
    ('zero pages that come and go put off the end for ever', 'evictor.cc', '(full.ended_by_zeros ? s_.stats.drops_zero : 0)', 's_.stats.drops_zero'),
    ('the home does not check what others installed', 'executor.cc', 'm->msg.kind == MsgKind::Done && protocol_', 'false && protocol_'),
    ('the home does not check what it grants', 'executor.cc', 'msg.kind == MsgKind::Grant && msg.nodes == 0', 'false'),
    ('nobody checks what has been handed over', 'executor.cc', 'if (checker_) checker_->surrendered(', 'if (false) checker_->surrendered('),
    ('a twin counts for the version after it', 'executor.cc', 'twins_.keep(install.page, install.version - 1, frame)', 'twins_.keep(install.page, install.version, frame)'),
    ('a page that is claimed has a twin', 'executor.cc', 'install.want == Want::Write && install.version > 1 && frame', 'install.version > 1 && frame'),
    ('changes of whatever bytes are there', 'requester.cc', 'if (msg.have != 0 && msg.have != ours) return false;', ''),
    ('changes of zeros', 'executor.cc', 'std::memcpy(scratch_.data(), frame, kPageSize);', 'scratch_.fill(0);'),
    ('twins of another page', 'changes.cc', 'e.page == page && e.version == version', 'e.version == version'),
    ('twins of another version', 'changes.cc', 'e.page == page && e.version == version', 'e.page == page'),
    ('the last line never changes', 'changes.cc', 'line < kLines; ++line)', 'line + 1 < kLines; ++line)'),
    ('the holder hears of another version', 'directory.cc', '    m.have = p.have;\n', '    m.have = p.have + 1;\n'),
    ('holds of another agent are forgotten', 'holds.cc', 'if (a.count == 0) holding_ &= ~bit(agent);', 'if (a.count == 0) holding_ = 0;'),
]

# name, file, text as it stands, text with the mistake; file by file with the test programs that must notice
HAND_OVER = [
    ('a parked agent keeps its copies', 'emu/mem/agent.cc', '      a->drop_and_note(*r);\n      continue;', '      continue;'),
    ('nobody waits for running agents', 'emu/mem/agent.cc', '    r->remaining.fetch_add(1);\n', ''),
    ('a running agent is not asked to stop', 'emu/mem/agent.cc', '    a->exit_request().store(1);\n', ''),
    ('a safepoint drops nothing', 'emu/mem/agent.cc', 'for (const auto& r : done) drop_and_note(*r);', ''),
    ('who may still read is forgotten', 'emu/mem/agent.cc', '  if (r.keep == Right::None) maybe_', '  maybe_'),
    ('to park is no safepoint', 'emu/mem/agent.cc', '    done = take_pending();\n    parked_ = true;', '    parked_ = true;'),
    ('the right is lowered when all have dropped the page', 'emu/machine/node/remote_gate.cc',
     ('  memory_.pages.set_right(page, keep);\n  if (keep == Right::None) drop_code(page);\n  done_inside_',
      '[this, page, keep, token] {\n'),
     ('  if (keep == Right::None) drop_code(page);\n  done_inside_',
      '[this, page, keep, token] {\n    memory_.pages.set_right(page, keep);\n')),
    ('a waiting agent counts as running', 'emu/machine/node/remote_gate.cc', '  agent.park();\n  Slot*', '  Slot*'),
    ('blocks outlive their page', 'emu/machine/node/remote_gate.cc',
     ('  if (keep == Right::None) drop_code(page);\n  done_inside_', '    if (keep == Right::None) drop_code(page);\n    if'),
     ('  done_inside_', '    if')),
    ('a miss looks before it publishes', 'emu/x86/tlb_fill.cc',
     '  c.note_may_hold(page);\n  const u8 cell = m.pages.load(page);', '  const u8 cell = m.pages.load(page);\n  c.note_may_hold(page);'),
    ('a translation looks before it publishes', 'emu/x86/tlb_fill.cc',
     '  c.note_may_hold(page);\n  u8 cell = m.pages.load(page);', '  u8 cell = m.pages.load(page);\n  c.note_may_hold(page);'),
    ('a miss does not publish', 'emu/x86/tlb_fill.cc', '  c.note_may_hold(page);\n  const u8', '  const u8'),
    ('a miss does not look', 'emu/x86/tlb_fill.cc', '  if (!PageTable::may(cell, access)) return wait_for(c, page, access);\n', ''),
    ('a page with code gets a write tag', 'emu/x86/tlb_fill.cc', ' && !(cell & PageTable::kHasCode);', ';'),
    ('a page that may only be read gets a write tag', 'emu/x86/tlb_fill.cc', ' && PageTable::may(cell, Access::Write) && !(cell', ' && !(cell'),
    ('an entry of a page with no key is global', 'emu/x86/tlb_fill.cc', 'u32{w.key} << kTlbKeyShift : 0)', 'u32{w.key} << kTlbKeyShift : 1)'),
    ('a clean page may be written', 'emu/x86/walk_settled.cc', '  out.write &= (v & kD) != 0;\n', ''),
    ('what is not present is there', 'emu/x86/walk_settled.cc', '    if (!(v & kP)) return false;\n', ''),
    ('a walk publishes nothing', 'emu/x86/paging.cc', '  if (!quiet) c_.note_may_hold(step.page);\n', ''),
    ('the page of the PDPTEs is not published', 'emu/x86/paging.cc', '    c.note_may_hold(page);\n', ''),
    ('an entry that has changed is not read again', 'emu/x86/paging.cc', '    if (!done) return std::nullopt;\n', ''),
    ('a large page begins where it was used', 'emu/x86/tlb.cc', ' low = gva & ~size_mask;', ' low = gva;'),
    ('an address space takes large pages along', 'emu/x86/tlb.cc', '  if (keep_global) return;\n', ''),
    ('an entry stays global', 'emu/x86/tlb.cc', 'put(slot.global[bank], flags & kTlbGlobal);', 'if (flags & kTlbGlobal) slot.global[bank][w] |= m;'),
    ('an entry that is dropped clears the bit of another', 'emu/x86/tlb.cc', '  slot.valid[bank][i >> 6] &= ~(u64{1} << (i & 63));', '  slot.valid[bank][i >> 7] &= ~(u64{1} << (i & 63));'),
    ('jumps of a private page stay', 'emu/x86/tlb_jumps.cc', ' || !(e.flags & kTlbGlobal)) slot', ') slot'),
    ('jumps of global pages stay for ever', 'emu/x86/tlb.cc', 'if (!keep_global || slot.jumps_local[bank])', 'if (slot.jumps_local[bank])'),
    ('jumps of another large page are forgotten, not dropped', 'emu/x86/tlb_jumps.cc', '    low = std::min(low, rip);\n', ''),
    ('a place of the jump cache is not noted', 'emu/x86/tlb_jumps.cc', '  slot.jumps[bank][place >> 6] |= u64{1} << (place & 63);\n', ''),
    ('jumps are sought in the other part of the cache', 'emu/x86/tlb_jumps.cc', 'jump_index(u64{page} << kPageShift) & ~static', 'jump_index(u64{page + 1} << kPageShift) & ~static'),
    ('returns find the code of another mode', 'jit/dispatch.cc', 's.mode & Mode::kSmapOpen ? Bank::SupervisorSmap : tlb_bank(s.mode);', 'Bank::Supervisor;'),
    ('returns behind CLAC find the code of the open mode', 'jit/dispatch.cc', 's.mode & Mode::kSmapOpen ? Bank::SupervisorSmap : tlb_bank(s.mode);', 'tlb_bank(s.mode);'),
    ('INVLPG is for one address space', 'emu/x86/exec/tables.cc', 'flush_gva(gva, true)', 'flush_gva(gva, false)'),
    ('INVPCID of all keeps global pages', 'emu/x86/exec/tables.cc', 'case 2: c.tlb().flush_all();', 'case 2: c.tlb().flush_all(true);'),
    ('CR4.PGE keeps global pages', 'emu/x86/exec/control_registers.cc', '(kCr4PSE | kCr4PAE | kCr4PGE | kCr4PCIDE |', '(kCr4PSE | kCr4PAE | kCr4PCIDE |'),
    ('PCIDs end in the middle', 'emu/x86/exec/control_registers.cc', '  if (changed & kCr4PCIDE) c.tlb().select(pcid_of(s));\n', ''),
    ('DMA does not publish', 'emu/machine/agent_memory.cc', '    note_may_hold(page);\n', ''),
    ('DMA never says that it is done', 'emu/machine/agent_memory.cc', '    if (waited_) memory_.gate->retired(*this);\n', ''),
    ('only the first page of several goes', 'emu/mem/agent.cc', 'for (const auto& r : done) drop_and_note(*r);', 'if (!done.empty()) drop_and_note(*done.front());'),
    ('a vCPU that is paused is not parked', 'emu/machine/vcpu_thread.cc', '  vcpu_.park();\n  if (x87_here_)', '  if (x87_here_)'),
    ('a vCPU that was paused goes on as parked', 'emu/machine/vcpu_thread.cc', 'x87_here_ = true;\n  vcpu_.unpark();', 'x87_here_ = true;'),
    ('a vCPU that slept goes on as parked', 'emu/machine/vcpu_thread.cc', 'std::memory_order_relaxed);\n  vcpu_.unpark();', 'std::memory_order_relaxed);'),
    ('a fault lets its pages go before its delivery', 'emu/machine/vcpu_thread.cc', 'if (o != Outcome::Fault) retired();', 'retired();'),
    ('zeros leave the frame as it was', 'emu/machine/node/remote_gate.cc', 'else if (executor_.protocol().version(page) != 0)', 'else if (false)'),
    ('every hold is the first agent\'s', 'emu/machine/node/remote_gate.cc', 'access, slot->id, agent.place()', 'access, 0, agent.place()'),
    ('who has waited goes on as parked', 'emu/machine/node/remote_gate.cc', '  agent.unpark();\n', ''),
    ('nobody wakes the thread of the deadlines', 'emu/machine/node/remote_gate.cc', '  if (earlier) gate_.tick_wake_.notify_one();', '  if (false) gate_.tick_wake_.notify_one();'),
    ('a wait that begins as the gate stops goes on', 'emu/machine/node/remote_gate.cc', 'woken.store(stopping_.load() ? 1 : 0);', 'woken.store(0);'),
    ('pages in use are given up', 'emu/machine/node/frame_hand.cc', '    if (in_use(silent_at_) && wanted.waiting == 0) continue;\n', ''),
    ('pages keep their copies for ever', 'emu/machine/node/frame_hand.cc', '  memory_.safepoints.revoke(page, Right::None, [] {});\n', ''),
    ('pages are moved before a lap is over', 'emu/machine/node/frame_hand.cc', ' && vain_looks_ >= lap()', ''),
    ('a device is waited for without parking', 'emu/x86/mmio.cc', '  c.park();\n  const u64 value', '  const u64 value'),
    ('what comes from a device goes on as parked', 'emu/x86/mmio.cc', '  c.unpark();\n  if (!slot', '  if (!slot'),
    ('RAM seems to go on behind its end', 'emu/x86/bounce.cc', '  if (span.mmio()) return nullptr;\n', ''),
    ('a task switch keeps the old address space', 'emu/x86/task_switch.cc', 'cr3 = image_.cr3;\n    c_.tlb().flush_current(s_.cr4 & kCr4PGE);', 'cr3 = image_.cr3;'),
    ('a task switch that waits leaves the new address space', 'emu/x86/task_switch.cc', 'before.put_back(s_);\n    c_.tlb().flush_current(s_.cr4 & kCr4PGE);', 'before.put_back(s_);'),
    ('a page keeps its own write tag', 'jit/translator.cc', '  c.tlb().drop_page(page, Right::Read);\n', ''),
    ('blocks are made while others may write', 'jit/translator.cc', '    done->wait(false);\n', ''),
    ('who waits for others to let go is not parked', 'jit/translator.cc', '    c.park();\n    done->', '    done->'),
    ('who has waited for them goes on as parked', 'jit/translator.cc', 'done->wait(false);\n    c.unpark();', 'done->wait(false);'),
    ('code that is lost meanwhile is ready', 'jit/translator.cc', 'if (losses != losses_)', 'if (false)'),
    ('the second page of a block may be written', 'jit/translator.cc', 'k < lifted.page_count; ++k)', 'k < 1; ++k)'),
    ('the cache is emptied under others', 'jit/translator.cc', 'while (running_.load() > 1)', 'while (false)'),
    ('who empties the cache is not parked', 'jit/translator.cc', '  r.c.park();\n  while', '  while'),
    ('the jump caches outlive the cache', 'jit/translator.cc', '    for (const auto& each : runners_) each->flush_jumps.store(true);\n', ''),
    ('nobody leaves a block that has died', 'jit/translator.cc', '    r->c.exit_request().store(1);\n', ''),
    ('nobody looks a block up that has died', 'jit/translator.cc', '    r->flush_jumps.store(true);\n', ''),
    ('links to a block outlive it', 'jit/block_map.cc', '    patch(l->rel32, l->unlinked);\n', ''),
    ('a block is known by its first page alone', 'jit/block_map.cc', 'k < b.page_count; ++k) by_page_', 'k < 1; ++k) by_page_'),
    ('half a page passes for a page', 'emu/machine/node/remote_gate.cc', ' || !coherence::payload_fits(*msg, payload)', ''),
]
PROGRAMS = {
    'emu/mem/agent.cc': ('emu/mem/test_mem', 'emu/x86/test_x86_core', 'emu/machine/test_machine'),
    'emu/machine/node/remote_gate.cc': ('emu/machine/test_machine',),
    'emu/machine/node/frame_hand.cc': ('emu/machine/test_machine',),
    'emu/machine/agent_memory.cc': ('emu/machine/test_machine',),
    'emu/machine/vcpu_thread.cc': ('emu/machine/test_machine',),
    'emu/x86/bounce.cc': ('emu/x86/test_x86_core',),
    'emu/x86/mmio.cc': ('emu/x86/test_x86_core',),
    'emu/x86/task_switch.cc': ('emu/x86/test_x86_core',),
    'jit/block_map.cc': ('jit/test_jit',),
    'jit/dispatch.cc': ('jit/test_jit',),
    'jit/translator.cc': ('jit/test_jit',),
    'emu/x86/exec/control_registers.cc': ('emu/x86/test_x86_exec',),
    'emu/x86/exec/tables.cc': ('emu/x86/test_x86_exec',),
    'emu/x86/paging.cc': ('emu/x86/test_x86_core',),
    'emu/x86/tlb.cc': ('emu/x86/test_x86_core',),
    'emu/x86/tlb_jumps.cc': ('emu/x86/test_x86_core',),
    'emu/x86/tlb_fill.cc': ('emu/x86/test_x86_core',),
    'emu/x86/walk_settled.cc': ('emu/x86/test_x86_core',),
}
FILTERS = {'emu/machine/test_machine': 'RemoteGate.*:HandOver.*:Forged.*:AgentMemory.*:VcpuPages.*:Hands.*:NodeProcess.*'}  # the rest of it has nothing to do with this


def run(command, timeout):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None


def mutate(path, old, new):
    """The file's text with the mistake; nothing if the text it replaces is not there exactly once."""
    text = path.read_text()
    for before, after in zip(*((old, new) if isinstance(old, tuple) else ((old,), (new,)))):
        if text.count(before) != 1:
            return None
        text = text.replace(before, after)
    return text


def told(red):
    return f'{"red      " if red else "SURVIVES "}'


def hand_over(build, names):
    """Compiles each mistake as its file is compiled, and links it before the libraries, so that it comes first."""
    survivors = 0
    commands = {c['file']: c['command'] for c in json.loads((build / 'compile_commands.json').read_text())}
    work = pathlib.Path(tempfile.mkdtemp(prefix='pangea-mutations-'))
    mutant = work / 'mutant.o'
    for name, file, old, new in HAND_OVER:
        if names and name not in names:
            continue
        text = mutate(ROOT / file, old, new)
        if text is None:
            print(f'STALE     {name}: {file} has not one place like it')
            survivors += 1
            continue
        (work / 'mutant.cc').write_text(text)
        command = next(c for f, c in commands.items() if (build / f).resolve() == ROOT / file)
        command = re.sub(r' -M[QF] \S+| -MD', '', command)
        command = re.sub(r' -o \S+ -c \S+$', f' -Wno-error -o {mutant} -c {work / "mutant.cc"}', command)
        built = subprocess.run(command, shell=True, cwd=build, capture_output=True, text=True)
        if built.returncode:
            print(f'NO BUILD  {name}: {built.stderr.splitlines()[0]}')
            survivors += 1
            continue
        red = []
        for program in PROGRAMS[file]:
            link = subprocess.run(['ninja', '-t', 'commands', '-s', program], cwd=build, check=True, capture_output=True, text=True).stdout.strip()
            exe = work / 'program'
            link = link.replace(f' -o {program} ', f' -o {exe} {mutant} ', 1)
            subprocess.run(link, shell=True, cwd=build, check=True)
            r = run([str(exe)] + ([f'--gtest_filter={FILTERS[program]}'] if program in FILTERS else []), 120)
            if r is None or r.returncode:
                failed = re.search(r'\[  FAILED  \] (\w+\.\w+)', r.stdout) if r else None
                red.append(failed.group(1) if failed else f'{program} ({"crashes" if r else "hangs"})')
                break
        survivors += not red
        print(f'{told(red)} {name}: {", ".join(red)}', flush=True)
    shutil.rmtree(work)
    return survivors


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    names = sys.argv[2:]
    survivors = hand_over(build, names)
    if names and not any(m[0] in names for m in MUTATIONS):
        return survivors
    work = pathlib.Path(tempfile.mkdtemp(prefix='pangea-mutations-'))
    shutil.copytree(ROOT / 'coherence', work / 'coherence')
    flags = ['-std=c++20', '-O1', '-I', str(work), '-I', str(ROOT), '-I', str(build)]
    libs = [str(build / p) for p in ('tests/sim/libsim.a', 'coherence/libcoherence.a', 'coherence/libcoherence_wire.a', 'emu/base/libbase.a')]
    tests = {
        'sim': [ROOT / 'tests/sim/sim_test.cc'],
        'unit': sorted((ROOT / 'coherence').glob('*_test.cc')),
    }
    for kind, sources in tests.items():
        for s in sources:
            subprocess.run(['ccache', 'g++', *flags, '-c', str(s), '-o', str(work / f'{kind}-{s.stem}.o')], check=True)
    for name, file, old, new in MUTATIONS:
        if names and name not in names:
            continue
        text = (ROOT / 'coherence' / file).read_text()
        if text.count(old) != 1:
            print(f'STALE     {name}: {file} has {text.count(old)} places like it')
            survivors += 1
            continue
        (work / 'coherence' / file).write_text(text.replace(old, new))
        built = run(['g++', *flags, '-c', str(work / 'coherence' / file), '-o', str(work / 'mutant.o')], 120)
        (work / 'coherence' / file).write_text(text)
        if built.returncode:
            print(f'NO BUILD  {name}: {built.stderr.splitlines()[0]}')
            survivors += 1
            continue
        red = []
        for kind in tests:
            exe = work / kind
            objects = [str(o) for o in work.glob(f'{kind}-*.o')]
            main_lib = ['-lgtest_main'] if kind == 'unit' else []
            subprocess.run(['g++', *objects, str(work / 'mutant.o'), *libs, *main_lib, '-lgtest', '-lprotobuf-lite', '-lprotobuf', '-lfmt', '-lpthread', '-o', str(exe)], check=True)
            r = run([str(exe)], 300)
            if r is None or r.returncode:
                hit = re.search(r'(--seed \d+|seed \d+)', r.stdout + r.stderr) if r else None
                red.append(f'{kind} ({hit.group(1)})' if hit else kind)
        survivors += not red
        print(f'{told(red)} {name}: {", ".join(red)}', flush=True)
    shutil.rmtree(work)
    print(f'{survivors} survive')
    return survivors


if __name__ == '__main__':
    sys.exit(main())
