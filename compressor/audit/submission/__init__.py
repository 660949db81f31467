"""Submission packages of the challenge: what must be in them, read with file and line.

Nothing here measures a model: the gate holds these findings beside the audit's figures. Files of a
package are untrusted: YAML is composed, never constructed, sizes are bounded, nothing is unpacked
but a model, into a temporary folder.
"""
