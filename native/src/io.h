// Whole transfers: short reads and writes are continued, EINTR is repeated. All return 0 or -errno.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace ext4d {

// Reading past the end of the device is -EIO: every caller asks for bytes that exist.
int ReadFully(int fd, uint8_t* data, size_t length, off_t offset);
int WriteFully(int fd, const uint8_t* data, size_t length, off_t offset);
// Changes the vectors as it goes.
int WriteVectorsFully(int fd, struct iovec* vectors, int count, off_t offset);
int FlushData(int fd);

}  // namespace ext4d
