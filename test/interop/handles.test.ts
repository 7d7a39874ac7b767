/** File handles, as NFS servers and backup programs keep them: name_to_handle_at(2), open_by_handle_at(2). */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeImageFile, run } from '../support/mke2fs.js';
import { requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

/** Python is what the native part is built with; neither Node nor coreutils know these calls. */
const PYTHON = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [('bytes', ctypes.c_uint), ('type', ctypes.c_int), ('data', ctypes.c_ubyte * 128)]
def take(path):
    handle, mount = Handle(bytes=128), ctypes.c_int()
    if libc.name_to_handle_at(-100, path.encode(), ctypes.byref(handle), ctypes.byref(mount), 0) != 0:
        raise OSError(ctypes.get_errno(), path)
    return handle
def read(root, handle):
    fd = libc.open_by_handle_at(root, ctypes.byref(handle), os.O_RDONLY)
    if fd < 0:
        return os.strerror(ctypes.get_errno())
    try:
        return os.read(fd, 100).decode()
    except IsADirectoryError:
        return ' '.join(sorted(os.listdir(fd)))
    finally:
        os.close(fd)
def forget():
    with open('/proc/sys/vm/drop_caches', 'w') as caches:
        caches.write('2')
`;

describe('file handles', function () {
  this.timeout(60_000);
  before(function () {
    requireOrSkip(
      this as unknown as Mocha.Context,
      whyNoFuse() ?? (process.getuid?.() === 0 ? null : 'opening by handle is for root'),
    );
  });

  it('lead to files and directories that the kernel has forgotten, whatever their names are now, and not to removed ones', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      await withMount(image, mountpoint, '', () => {
        mkdirSync(join(mountpoint, 'd/e'), { recursive: true });
        writeFileSync(join(mountpoint, 'd/kept'), 'kept');
        writeFileSync(join(mountpoint, 'd/gone'), 'gone');
        const script = `${PYTHON}
root = os.open(${JSON.stringify(mountpoint)}, os.O_RDONLY)
at = lambda name: os.path.join(${JSON.stringify(mountpoint)}, name)
handles = [take(at(name)) for name in ('d/kept', 'd/gone', 'd', 'd/e')]
os.rename(at('d/kept'), at('d/e/renamed'))
os.unlink(at('d/gone'))
forget()
print([read(root, handle) for handle in handles])
`;
        const { output } = run('python3', ['-c', script]);
        assert.equal(output.trim(), "['kept', 'Stale file handle', 'e', 'renamed']");
      });
    }));
});
