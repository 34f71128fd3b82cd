#!/bin/sh
# Builds the example in the current folder:
#   build.sh host                  the parameters, block_data.hpp, and the program for the host: ./host
#   build.sh BOARD [OPTIMIZATION]  the program for microbit, mps2-an386 or mps3-an547: BOARD.elf, for which
#                                  build.sh host has to be run before
set -eu

example=$(cd "$(dirname "$0")" && pwd)
include="-I. -I$example/../../include"
board=$1
level=${2:--Os}

if [ "$board" = host ]; then
  compile="${CXX:-c++} -std=c++20 -O1 $include"
  $compile "$example/export_block.cpp" -o export_block
  ./export_block > block_data.hpp
  $compile "$example/main.cpp" "$example/operations.cpp" "$example/host.cpp" -o host
  exit
fi

case $board in
  microbit) cpu="-mcpu=cortex-m0" ;;
  mps2-an386) cpu="-mcpu=cortex-m4" ;;
  mps3-an547) cpu="-mcpu=cortex-m55 -mfloat-abi=hard" ;;
  *) echo "build.sh: there is no board $board" >&2 && exit 1 ;;
esac
compile="arm-none-eabi-g++ $cpu -mthumb -std=c++20 $level -fno-exceptions -fno-rtti -ffunction-sections -fdata-sections"
for source in main operations board; do
  $compile -DINTACT_NO_STDIO -Wno-psabi $include -c "$example/$source.cpp" -o "$board-$source.o"
done
$compile -nostartfiles -Wl,--gc-sections -L "$example" -T "$board.ld" "$board-main.o" "$board-operations.o" \
  "$board-board.o" -o "$board.elf"
