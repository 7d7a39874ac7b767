/** A sound image with one thing wrong, chosen by hand: for the tests of what the campaign has found. */
import { CorruptionError } from '../../../src/errors.js';
import { Filesystem, type FilesystemOptions } from '../../../src/ext4/filesystem.js';
import { GuardDevice } from './guard-device.js';
import { type NamedImage, soundImage, stillEnvironment } from './images.js';
import { locate } from './locate.js';
import { ScratchImage } from './scratch-image.js';
import { type Kind, type Located, readField, type Structure, writeField } from './structures.js';

const ROOT = 2;
const sounds = new Map<string, { image: NamedImage; located: Located }>();

export class Patient {
  readonly located: Located;
  readonly image: ScratchImage;

  private constructor(image: NamedImage, located: Located) {
    this.image = new ScratchImage(image);
    this.located = located;
  }

  static async of(name: string): Promise<Patient> {
    let sound = sounds.get(name);
    if (sound === undefined) {
      const image = await soundImage(name);
      sound = { image, located: locate(image) };
      sounds.set(name, sound);
    }
    return new Patient(sound.image, sound.located);
  }

  all(kind: Kind, wanted: (structure: Structure) => boolean = () => true): Structure[] {
    const found = (this.located.structures.get(kind) ?? []).filter(wanted);
    if (found.length === 0) throw new Error(`the image has no such ${kind}`);
    return found;
  }

  /** The inode with this path, in the sound image. */
  ino(path: string): number {
    const fs = this.open({ readOnly: true });
    let ino = ROOT;
    for (const name of path.split('/')) ino = fs.lookup(ino, new TextEncoder().encode(name));
    if (ino === 0) throw new Error(`${path} is not there`);
    return ino;
  }

  get(structure: Structure, field: string): number {
    return readField(this.image.bytes, fieldNamed(structure, field));
  }

  /** Changes a field and puts the checksums right. */
  set(structure: Structure, field: string, value: number): void {
    this.edit(structure, () => {
      const place = fieldNamed(structure, field);
      this.image.touch(place.at, place.size);
      writeField(this.image.bytes, place, value);
    });
  }

  /** Changes the bytes of a structure and puts the checksums right. */
  edit(structure: Structure, change: (bytes: Uint8Array) => void): void {
    change(this.image.writable(structure.at, structure.length));
    structure.seal(this.image);
  }

  open(options: FilesystemOptions = {}): Filesystem {
    return Filesystem.open(new GuardDevice(this.image), { env: stillEnvironment(), ...options });
  }
}

function fieldNamed({ fields, what }: Structure, name: string) {
  const field = fields.find((each) => each.name === name);
  if (field === undefined) throw new Error(`${what} has no ${name}`);
  return field;
}

/** For assert.throws: a corruption of this structure. */
export const corruptionOf = (structure: RegExp) => (error: unknown) =>
  error instanceof CorruptionError && structure.test(error.structure);
