/** Finds the external journal that a filesystem asks for, by its UUID, among the devices given and those udev knows. */
import { existsSync } from 'node:fs';
import type { BlockDevice } from '../block/device.js';
import { FileDevice } from '../block/file-device.js';
import { TwinDevice } from '../block/twin-device.js';
import { FsError, UnsupportedError } from '../errors.js';
import { externalJournalUuid, formatUuid } from '../ext4/external-journal.js';
import { readGeometry } from '../ext4/open.js';
import { CommandError } from './command-error.js';

/**
 * `device` itself if its journal is inside, or cannot be found and none was named; otherwise both as one. Throws
 * UnsupportedError if none of `paths` is the journal; CommandError, FsError, CorruptionError.
 */
export function attachJournal(device: BlockDevice, paths: readonly string[], readOnly: boolean): BlockDevice {
  const geometry = readGeometry(device);
  if (!geometry.hasJournal || geometry.journalInum !== 0) return device;
  const wanted = formatUuid(geometry.journalUuid);
  const known = `/dev/disk/by-uuid/${wanted}`;
  const seen: string[] = [];
  for (const path of existsSync(known) ? [...paths, known] : paths) {
    const journal = openJournal(path, readOnly);
    const uuid = externalJournalUuid(journal);
    if (uuid !== null && formatUuid(uuid) === wanted) return new TwinDevice(device, journal);
    journal.close();
    seen.push(`${path} ${uuid === null ? 'is no journal device' : `has ${formatUuid(uuid)}`}`);
  }
  if (seen.length > 0)
    throw new UnsupportedError(`the journal with the UUID ${wanted} was not found: ${seen.join(', ')}`, [
      'external journal',
    ]);
  return device;
}

function openJournal(path: string, readOnly: boolean): FileDevice {
  try {
    return FileDevice.open(path, { readOnly });
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    throw new CommandError(`the journal device cannot be opened: ${error.message}`);
  }
}
