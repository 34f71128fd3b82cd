# Runs a program that must abort after it has printed one line:
#   cmake -D COMMAND=<program and arguments> -D EXPECTED=<line> -P <this file>

cmake_minimum_required(VERSION 3.25)

execute_process(COMMAND ${COMMAND} OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE result)
if(NOT output STREQUAL "${EXPECTED}\n")
  message(FATAL_ERROR "it printed\n${output}instead of\n${EXPECTED}")
endif()
if(NOT result MATCHES "abort")
  message(FATAL_ERROR "it did not abort, but ended with ${result}")
endif()
