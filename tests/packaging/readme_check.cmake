# Fails unless the README contains the program: cmake -D README=<file> -D PROGRAM=<file> -P <this file>

cmake_minimum_required(VERSION 3.25)

file(READ ${README} readme)
file(READ ${PROGRAM} program)
string(FIND "${readme}" "```cpp\n${program}```" position)
if(position EQUAL -1)
  message(FATAL_ERROR "${README} does not contain the text of ${PROGRAM}")
endif()
