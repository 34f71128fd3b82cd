# Compiles a program in C with the flags of pkg-config, and runs it: cmake -D PKG_CONFIG=<program> -D PREFIX=<prefix>
# -D LIBRARY_DIR=<folder in it> -D COMPILER=<C compiler> -D PROGRAM=<source> -D OUTPUT=<program> -P <this file>

cmake_minimum_required(VERSION 3.25)

set(ENV{PKG_CONFIG_PATH} ${PREFIX}/${LIBRARY_DIR}/pkgconfig)
execute_process(COMMAND ${PKG_CONFIG} --cflags --libs intact-c OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
execute_process(COMMAND ${COMPILER} -std=c99 -O1 ${PROGRAM} ${flags} -lm -pthread -o ${OUTPUT} COMMAND_ERROR_IS_FATAL ANY)
set(ENV{LD_LIBRARY_PATH} ${PREFIX}/${LIBRARY_DIR})
execute_process(COMMAND ${OUTPUT} COMMAND_ERROR_IS_FATAL ANY)
