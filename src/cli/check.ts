/** `ext4d check`: what contradicts itself in an image. Nothing is written. */
import { OverlayDevice } from '../block/overlay-device.js';
import { checkFilesystem } from '../ext4/check/check.js';
import { frozenVolume } from '../ext4/frozen-volume.js';
import { readGeometry } from '../ext4/open.js';
import { recoverLog } from '../ext4/recover.js';
import { ImageExit } from './exit-codes.js';
import { count, parseImageArguments, print, withImage } from './image-command.js';

/** Exit code: 0 nothing found, 4 contradictions, or no readable ext4, 8 operational error, 16 usage. */
export function runCheck(args: readonly string[]): number {
  const parsed = parseImageArguments('check', args);
  if (parsed === null) return ImageExit.USAGE;
  const { image, flags } = parsed;
  return withImage(parsed, { access: 'read', json: flags.json }, (device) => {
    const geometry = readGeometry(device);
    // A dirty log is replayed in memory: what counts is the filesystem that a mount would find.
    const replayed = new OverlayDevice(device);
    const log = !geometry.hasJournal ? null : recoverLog(replayed, geometry);
    const dirty = log?.state === 'recovered';
    const report = checkFilesystem(frozenVolume(replayed, readGeometry(replayed)), { unmounted: !dirty });
    const { findings, ...found } = report;
    if (flags.json) {
      const list = findings.map(({ structure, place, finding }) => ({ structure, place, finding }));
      print(JSON.stringify({ image, replayed: dirty, ...found, findings: list }));
    } else {
      for (const finding of findings) print(finding.message);
      if (dirty) print('the log was replayed in memory first; ext4d replay does it on the image');
      print(
        `${count(found.inodes, 'inode')} in use, ${found.directories} directories, ` +
          `${count(found.orphans, 'orphan')}: ${findings.length === 0 ? 'no contradictions' : count(findings.length, 'contradiction')}`,
      );
      if (findings.length > 0) print(`repair: e2fsck -f ${image}`);
    }
    return findings.length === 0 ? ImageExit.OK : ImageExit.CORRUPT;
  });
}
