#include "mapping_cache.h"

#include <algorithm>

namespace ext4d {

namespace {

using Extent = MappingCache::Entry::Extent;

bool StartsBehind(uint64_t offset, const Extent& extent) { return offset < extent.file_offset; }

// The first extent that ends behind `offset`.
std::vector<Extent>::const_iterator Reaching(const std::vector<Extent>& extents, uint64_t offset) {
  auto it = std::upper_bound(extents.begin(), extents.end(), offset, StartsBehind);
  if (it != extents.begin() && std::prev(it)->file_offset + std::prev(it)->length > offset) --it;
  return it;
}

}  // namespace

void MappingCache::Learn(const File& file, uint64_t file_offset, uint64_t length, uint64_t device_offset,
                         bool unwritten) {
  auto [it, fresh] = files_.try_emplace(file.ino);
  Entry& entry = it->second;
  if (fresh) {
    entry.file = file;
  } else {
    entry.file.size = file.size;
    entry.file.read_until = std::max(entry.file.read_until, file.read_until);
    entry.file.writeback |= file.writeback;
    entry.file.write |= file.write;
  }
  Cut(&entry, file_offset, length);
  if (unwritten && entry.unwritten.emplace(file_offset, file_offset + length).second) unwritten_++;
  // Mappings of the engine grow by whole extents: what overlaps says the same, or less.
  auto& extents = entry.extents;
  uint64_t end = file_offset + length;
  auto from = extents.begin() + (Reaching(extents, file_offset) - extents.cbegin());
  auto to = from;
  while (to != extents.end() && to->file_offset < end) ++to;
  if (to - from != 1 || from->file_offset > file_offset || from->file_offset + from->length < end) {
    from = extents.erase(from, to);
    extents.insert(from, {file_offset, length, device_offset});
  }
  ForgetTooMuch();
}

bool MappingCache::HasUnwritten(const Entry& entry, uint64_t offset, uint64_t length) {
  if (entry.unwritten.empty()) return false;
  auto behind = entry.unwritten.lower_bound(offset + length);
  return behind != entry.unwritten.begin() && std::prev(behind)->second > offset;
}

void MappingCache::MarkWritten(Entry* entry, uint64_t offset, uint64_t length) {
  Cut(entry, offset, length);
  ForgetTooMuch();
}

void MappingCache::Cut(Entry* entry, uint64_t offset, uint64_t length) {
  auto& unwritten = entry->unwritten;
  const size_t before = unwritten.size();
  uint64_t end = offset + length;
  for (auto it = unwritten.lower_bound(end); it != unwritten.begin();) {
    --it;
    auto [from, to] = *it;
    if (to <= offset) break;
    it = unwritten.erase(it);
    if (to > end) it = unwritten.emplace(end, to).first;
    if (from < offset) it = unwritten.emplace(from, offset).first;
  }
  unwritten_ = unwritten_ - before + unwritten.size();
}

void MappingCache::ForgetTooMuch() {
  if (unwritten_ > kMostUnwritten) ForgetAll();
}

MappingCache::Entry* MappingCache::Find(uint64_t ino) {
  if (last_ != nullptr && last_->file.ino == ino) return last_;
  auto it = files_.find(ino);
  if (it == files_.end()) return nullptr;
  last_ = &it->second;
  return last_;
}

int MappingCache::Map(const Entry& entry, uint64_t offset, uint64_t length, Piece* pieces, int most) {
  int count = 0;
  for (auto it = Reaching(entry.extents, offset); length > 0; ++it) {
    if (it == entry.extents.end() || it->file_offset > offset || count == most) return 0;
    uint64_t inside = offset - it->file_offset;
    uint64_t part = std::min(length, it->length - inside);
    pieces[count++] = {it->device_offset + inside, part};
    offset += part;
    length -= part;
  }
  return count;
}

void MappingCache::Forget(uint64_t ino) {
  auto it = files_.find(ino);
  if (it == files_.end()) return;
  WaitForPins(&it->second);
  if (last_ == &it->second) last_ = nullptr;
  unwritten_ -= it->second.unwritten.size();
  files_.erase(it);
}

void MappingCache::ForgetAll() {
  for (auto& [ino, entry] : files_) WaitForPins(&entry);
  files_.clear();
  unwritten_ = 0;
  last_ = nullptr;
}

void MappingCache::Pin(Entry* entry) {
  std::lock_guard<std::mutex> lock(mutex_);
  entry->pins++;
}

void MappingCache::Unpin(Entry* entry) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (--entry->pins == 0) unpinned_.notify_all();
}

void MappingCache::WaitForPins(Entry* entry) {
  std::unique_lock<std::mutex> lock(mutex_);
  unpinned_.wait(lock, [entry]() { return entry->pins == 0; });
}

}  // namespace ext4d
