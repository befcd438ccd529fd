#!/usr/bin/env bash
# Installs the Debian packages that the tests need and that are missing. A second run does nothing.
set -euo pipefail

packages=(
  prometheus prometheus-alertmanager                          # promtool and amtool check deploy/
  gir1.2-gst-rtsp-server-1.0 python3-gst-1.0                  # a real RTSP server for ingest
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly
)
command -v mvn >/dev/null || packages+=(maven)                # fetches Apache Kafka
command -v java >/dev/null || packages+=(openjdk-17-jre-headless) # runs it

if ! command -v dpkg-query >/dev/null; then
  echo "setup: not a Debian system; the tests need: ${packages[*]}" >&2
  exit 0
fi
missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
((${#missing[@]} == 0)) && exit 0

as_root=()
if ((EUID != 0)); then
  if ! sudo -n true 2>/dev/null; then
    echo "setup: the tests need Debian packages, and this user may not install them. Please run:" >&2
    echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo -n)
fi
echo "setup: installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Installing a service package must not start the service.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod +x "$policy"
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get -qq update
"${as_root[@]}" apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
