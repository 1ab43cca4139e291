import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';

/** SwiftShader, Vulkan on the CPU, as Debian's chromium brings it. Mesa's lavapipe is refused by ONNX Runtime. */
const DRIVER = '/usr/lib/chromium/vk_swiftshader_icd.json';
const LOADER = '/usr/lib/x86_64-linux-gnu/libvulkan.so.1';

const absent = [
  ...(existsSync(DRIVER) ? [] : [`${DRIVER} (Debian: chromium)`]),
  ...(existsSync(LOADER) ? [] : [`${LOADER} (Debian: libvulkan1)`]),
];

/** Why WebGPU (on Linux: x64 only, as onnxruntime-node brings it) cannot be tested here; undefined where it can. */
export const webgpuMissing =
  absent.length > 0 ? `WebGPU is not tested: there is no ${absent.join(' and no ')}` : undefined;

/** For child processes: drivers read it when they are loaded, and a driver that crashes must not take the tests along. */
export const WEBGPU_ENV = {
  VK_DRIVER_FILES: DRIVER,
  XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir(),
} as const;

/** The same process without any driver. */
export const NO_WEBGPU_ENV = { ...WEBGPU_ENV, VK_DRIVER_FILES: '/dev/null' } as const;
