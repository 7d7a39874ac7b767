{
  "targets": [
    {
      "target_name": "ext4d",
      "sources": [
        "src/addon.cc",
        "src/args.cc",
        "src/background.cc",
        "src/channel.cc",
        "src/company.cc",
        "src/crc32c.cc",
        "src/data_path.cc",
        "src/fast_path.cc",
        "src/files.cc",
        "src/flush_guard.cc",
        "src/io.cc",
        "src/io_ring.cc",
        "src/jobs.cc",
        "src/mapping_cache.cc",
        "src/mount.cc",
        "src/payloads.cc",
        "src/pressure.cc",
        "src/ring_channel.cc",
        "src/system.cc",
        "src/transfer_pipe.cc"
      ],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED", "_FILE_OFFSET_BITS=64"],
      "cflags": ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-cast-function-type", "-O2", "-fvisibility=hidden"],
      "cflags_cc!": ["-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions"]
    }
  ]
}
