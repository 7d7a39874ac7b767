import assert from 'node:assert/strict';
import { UsageError } from '../../../src/cli/args.js';
import { parseMountOptions } from '../../../src/cli/mount-options.js';

describe('mount options', () => {
  it('later words win', () => {
    const options = parseMountOptions(['ro,commit=3', 'rw,nosuid,suid,commit=7']);
    assert.equal(options.readOnly, false);
    assert.equal(options.readWrite, true);
    assert.equal(options.commitIntervalMs, 7000);
    assert.deepEqual(options.vfs, ['suid']);
  });

  it('what the kernel, mount(8), systemd and FUSE programs write in fstab is taken', () => {
    const words =
      'defaults,rw,nofail,_netdev,noauto,user,x-systemd.automount,x-systemd.device-timeout=5,comment=hello,delalloc,' +
      'barrier=1,nobarrier,user_xattr,acl,data=ordered,errors=remount-ro,discard,stripe=64,init_itable=10,usrjquota=a,' +
      'default_permissions,allow_other,max_read=131072,lazytime,nodiratime,relatime,dax=never,resuid=0,journal_checksum';
    assert.equal(parseMountOptions([words]).errors, 'remount-ro');
  });

  it('commit=0 is the default, as in the kernel', () => {
    assert.equal(parseMountOptions(['commit=0']).commitIntervalMs, undefined);
  });

  it('quota words turn limits on, noquota turns all off, and an empty name takes a quota file back', () => {
    const { policy, namedQuotaFiles } = parseMountOptions([
      'usrquota,prjquota,noquota,grpquota,usrjquota=a,jqfmt=vfsv1',
    ]);
    assert.deepEqual(policy, { userLimits: false, groupLimits: true, projectLimits: false });
    assert.deepEqual(namedQuotaFiles, ['usrjquota=a']);
    assert.equal(parseMountOptions(['quota']).policy.userLimits, true);
    assert.deepEqual(parseMountOptions(['usrjquota=a,usrjquota=']).namedQuotaFiles, []);
  });

  it('labels of security modules are kept for the kernel', () => {
    const { labels } = parseMountOptions(['context="system_u:object_r:tmp_t:s0",smackfsdef=_']);
    assert.deepEqual(labels, ['context="system_u:object_r:tmp_t:s0"', 'smackfsdef=_']);
  });

  it('auto_da_alloc is on unless it is taken away', () => {
    const flushes = (...words: string[]) => parseMountOptions(words).flushesReplacing;
    assert.deepEqual([flushes(), flushes('noauto_da_alloc'), flushes('auto_da_alloc=0')], [true, false, false]);
  });

  it('symbolic links may be left unfollowed, and words that ext4 has dropped are taken', () => {
    assert.deepEqual(parseMountOptions(['nosymfollow,journal=update']).vfs, ['nosymfollow']);
    assert.deepEqual(parseMountOptions(['nosymfollow,symfollow']).vfs, ['symfollow']);
  });

  it('a comma in a value is escaped', () => {
    assert.equal(parseMountOptions(['fsname=a\\,b,ro']).fsname, 'a,b');
  });

  it('sizes have units', () => {
    assert.equal(parseMountOptions(['cache_size=64m']).cacheBytes, 64 << 20);
    assert.equal(parseMountOptions(['cache_size=4096']).cacheBytes, 1 << 20, 'as little as there can be');
  });

  it('image_offset is offset under a name that mount(8) lets through', () => {
    assert.equal(parseMountOptions(['image_offset=1048576']).offsetBytes, 1048576);
  });

  for (const [words, message] of [
    ['ro,frobnicate', /unknown mount option: frobnicate/],
    ['frobnicate=3', /unknown mount option: frobnicate=3/],
    ['data=sometimes', /data=sometimes/],
    ['stripe=abc', /stripe=abc: a whole number/],
    ['journal_ioprio=9', /journal_ioprio=9/],
    ['setuid=nobody', /setuid=nobody is not supported: mount as that user/],
    ['dax', /dax is not supported/],
    ['dax=always', /dax=always is not supported/],
    ['commit=soon', /commit=soon/],
    ['commit', /commit needs a value/],
    ['ro=1', /ro takes no value/],
    ['errors=ignore', /errors=ignore/],
    ['jqfmt=vfsv7', /jqfmt=vfsv7/],
    ['offset=-1', /offset=-1/],
    ['constructor', /unknown mount option: constructor/],
  ] as const) {
    it(`${words} is refused by name`, () => {
      assert.throws(
        () => parseMountOptions([words]),
        (error) => error instanceof UsageError && message.test(error.message) && !error.message.includes('\n'),
      );
    });
  }

  it('sloppy lets unknown words pass, but not those known to be unsupported', () => {
    assert.deepEqual(parseMountOptions(['frobnicate'], { sloppy: true }).ignored, ['frobnicate']);
    assert.throws(() => parseMountOptions(['dax'], { sloppy: true }), UsageError);
  });
});
